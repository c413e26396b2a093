"""What a model is trained for: losses, metrics and objectives, one task a file."""

from raynas.tasks.task import TASKS as TASKS
from raynas.tasks.task import Task as Task
