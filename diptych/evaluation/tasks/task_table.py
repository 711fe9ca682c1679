"""All tasks by name; add a new task here."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from diptych.evaluation.tasks.corruptions import corruptions_task
from diptych.evaluation.tasks.corruptions import settings as corruptions_settings
from diptych.evaluation.tasks.generated import clip_score_task, cmmd_settings, cmmd_task
from diptych.evaluation.tasks.job import EvaluationJob, TaskResult, template_settings
from diptych.evaluation.tasks.probing import few_shot_settings, few_shot_task, probe_settings, probe_task
from diptych.evaluation.tasks.retrieval import retrieval_task
from diptych.evaluation.tasks.scene_attributes import scene_attributes_task
from diptych.evaluation.tasks.zero_shot import zero_shot_task


class Task(NamedTuple):
    """The function that runs a task, and the function that returns its own settings."""

    run: Callable[[EvaluationJob], TaskResult]
    settings: Callable[[EvaluationJob], Mapping[str, Any]]


TASKS = {
    "zero-shot": Task(zero_shot_task, template_settings),
    "retrieval": Task(retrieval_task, lambda job: {}),
    "probe": Task(probe_task, probe_settings),
    "few-shot": Task(few_shot_task, few_shot_settings),
    "corruptions": Task(corruptions_task, corruptions_settings),
    "clip-score": Task(clip_score_task, lambda job: {}),
    "cmmd": Task(cmmd_task, cmmd_settings),
    "scene-attributes": Task(scene_attributes_task, lambda job: {}),
}
