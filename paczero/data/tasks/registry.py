"""Which task the settings name.

>>> task_of(TaskConfig()).metric.name
'accuracy'
"""

from paczero.config import TaskConfig
from paczero.data.tasks.base import Task
from paczero.data.tasks.chat import Chat
from paczero.data.tasks.classification import Classification
from paczero.data.tasks.question_answering import Answer

_TASKS: dict[str, type[Answer] | type[Chat] | type[Classification]] = {
    "classification": Classification,
    "answer": Answer,
    "chat": Chat,
}


def task_of(config: TaskConfig) -> Task:
    """The task of these settings."""
    return _TASKS[config.kind](config)
