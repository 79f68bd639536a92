"""What `hpogen init` writes: a study of one's choice, with a line of explanation at each key."""

from hpogen.study.draft.choices import Known, draft, write
from hpogen.study.draft.tasks import Choices

__all__ = ["Choices", "Known", "draft", "write"]
