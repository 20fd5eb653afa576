"""Which task the settings name.

>>> task_of(TaskConfig()).metric.name
'accuracy'
"""

from paczero.config import TaskConfig
from paczero.records.tasks import Task
from paczero.records.tasks.answer import Answer
from paczero.records.tasks.chat import Chat
from paczero.records.tasks.classification import Classification

_TASKS: dict[str, type[Answer] | type[Chat] | type[Classification]] = {
    "classification": Classification,
    "answer": Answer,
    "chat": Chat,
}


def task_of(config: TaskConfig) -> Task:
    """The task of these settings."""
    return _TASKS[config.kind](config)
