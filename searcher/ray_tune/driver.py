"""The driver: has Ray Tune place the evaluations that searches of the engine ``ray`` want, until it is stopped."""

from __future__ import annotations

import logging
import os
import socket
import tempfile
import threading
from functools import partial
from typing import TYPE_CHECKING, Any

from sqlalchemy.exc import SQLAlchemyError

from searcher.ray_tune import presence
from searcher.ray_tune.cluster import nodes, slots
from searcher.ray_tune.trial import Trials, run_trial

if TYPE_CHECKING:
    from searcher.database import Database
    from searcher.ray_tune.cluster import Share
    from searcher.worker_settings import WorkerSettings

log = logging.getLogger(__name__)

_END_SECONDS = 10.0
_TUNE_SETTINGS = {
    "RAY_AIR_NEW_OUTPUT": "0",  # which prints a table whatever it is told
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",  # results are in the database
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # the driver has its own
    "TUNE_MAX_PENDING_TRIALS_PG": "64",  # so many start at the same time; ``Suggestions`` limits them by the cluster
}


class Driver:
    """Runs on a cluster that Ray is connected to; ``stop`` may be called from anywhere."""

    def __init__(self, database: Database, settings: WorkerSettings, share: Share) -> None:
        url = database.url.render_as_string(hide_password=False)
        self._trials = Trials(presence.new_driver_id(), url, settings, max(1, int(share.cpus)))
        self._database, self._share = database, share
        self._stopping = threading.Event()
        self._failure: Exception | None = None

    def stop(self) -> None:
        """Asks the driver to end: its trials finish the step they are in and hand their evaluations back."""
        self._stopping.set()

    def run(self) -> None:
        """Works until stopped."""
        driver_id, settings = self._trials.driver_id, self._trials.settings
        with self._database.write() as session:
            presence.register(session, driver_id)
        placing = threading.Thread(target=self._place_until_stopped, name="tune", daemon=True)
        placing.start()
        while not self._stopping.wait(presence.BEAT_SECONDS):
            self._tell(presence.beat)
            self._tell(partial(presence.note_fitness, problem=self._problem()))
        self._tell(presence.stop)
        while placing.is_alive() and self._has_trials():
            placing.join(settings.poll_seconds)
        placing.join(_END_SECONDS)  # Tune itself may wait for ever, for resources of a trial that has not begun
        if self._failure is not None:
            raise self._failure

    def _place_until_stopped(self) -> None:
        from searcher.ray_tune.suggestions import next_evaluation

        try:
            while not self._stopping.is_set():
                try:
                    has_work = next_evaluation(self._database) is not None
                except SQLAlchemyError as error:
                    self._database.outage.begin(error)
                    has_work = False
                if has_work:
                    _place(self._trials, self._share)
                else:
                    self._stopping.wait(self._trials.settings.poll_seconds)
        except Exception as error:
            self._failure = error
            self._stopping.set()

    def _problem(self) -> str | None:
        """Why nothing can be placed; None if something can."""
        try:
            has_room = slots(self._share, [node["Resources"] for node in nodes()]) > 0
        except Exception as error:  # Ray's own, of many kinds
            return f"the cluster does not answer ({error})"
        return None if has_room else "no node of the cluster has what one evaluation is to get"

    def _tell(self, what: Any) -> None:
        try:
            with self._database.write() as session:
                what(session, self._trials.driver_id)
        except SQLAlchemyError as error:
            self._database.outage.begin(error)

    def _has_trials(self) -> bool:
        try:
            with self._database.read() as session:
                return presence.has_trials(session, self._trials.driver_id)
        except SQLAlchemyError:
            return False  # nothing can be handed back: leases end


def _place(trials: Trials, share: Share) -> None:
    """Runs Tune until nothing is left to place: here, or, through a Ray client, in a process of the cluster."""
    import ray

    if ray.util.client.ray.is_connected():  # type: ignore[no-untyped-call]
        ray.get(ray.remote(num_cpus=0, max_retries=0)(run_tune).remote(trials, share))
    else:
        run_tune(trials, share)


def run_tune(trials: Trials, share: Share) -> None:
    """One run of Tune, whose own files are temporary."""
    os.environ.update(_TUNE_SETTINGS)
    logging.getLogger("ray.tune").setLevel(logging.WARNING)
    logging.getLogger("ray.tune.analysis").setLevel(logging.ERROR)  # which misses the files of results
    from ray import tune

    from searcher.ray_tune.suggestions import Suggestions

    def trainable(config: dict[str, Any]) -> None:
        def tell_unfit(reason: str) -> None:
            tune.report({"ran": False, "unfit": f"{socket.gethostname()}: {reason}"})

        tune.report({"ran": run_trial(trials, config["evaluation"], tell_unfit)})

    def resources(config: dict[str, Any]) -> tune.PlacementGroupFactory:
        bundle = {"CPU": share.cpus, "GPU": share.gpus, "memory": config["memory_bytes"]}
        return tune.PlacementGroupFactory([{name: amount for name, amount in bundle.items() if amount}])

    with tempfile.TemporaryDirectory(prefix="quantrank-ray-", ignore_cleanup_errors=True) as folder:
        tune.Tuner(
            tune.with_resources(trainable, resources),
            tune_config=tune.TuneConfig(search_alg=Suggestions(trials, share), num_samples=-1, reuse_actors=True),
            run_config=tune.RunConfig(
                name="quantrank", storage_path=folder, verbose=0, failure_config=tune.FailureConfig(max_failures=0)
            ),
        ).fit()
