"""What a study trains: the protocol of a task, a user's own function, a command line."""
