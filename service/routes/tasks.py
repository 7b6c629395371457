"""Tasks, and whether their data is there."""

from fastapi import APIRouter

from qcore import DataMissing, Task, list_tasks
from qcore.families import FAMILIES
from service.dependencies import SettingsOf
from service.lanes import Lane, in_lane
from service.schemas import DataView, RecipeView, TaskList, TaskView
from service.settings import Settings

router = APIRouter(tags=["tasks"])


@router.get("/tasks")
@in_lane(Lane.READS)
def get_tasks(settings: SettingsOf) -> TaskList:
    """Tasks with their recipes and block kinds; the image folders below the data root are among them."""
    return TaskList(tasks=[_view(task, settings) for task in list_tasks(settings.data_root)])


def _view(task: Task, settings: Settings) -> TaskView:
    return TaskView(
        name=task.name,
        version=task.version,
        title=task.title,
        input_shape=task.input_shape,
        classes=task.classes,
        metric=task.metric,
        train_examples=task.train_examples,
        validation_examples=task.validation_examples,
        test_examples=task.test_examples,
        blocks={block: FAMILIES[block].default_depths for block in task.blocks},
        default_blocks=task.default_blocks,
        recipes=[RecipeView.of(recipe) for recipe in task.recipes],
        data=_data(task, settings),
    )


def _data(task: Task, settings: Settings) -> DataView:
    try:
        task.check(settings.data_root)
    except DataMissing as error:
        return DataView(ready=False, remedy=str(error))
    return DataView(ready=True, remedy=None)
