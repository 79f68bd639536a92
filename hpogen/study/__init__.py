"""A study: how it is opened, asked, told and replayed, where it stands and what it will cost."""
