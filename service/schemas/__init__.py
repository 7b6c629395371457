"""What REST answers with, one file per resource."""

from service.schemas.candidates import CandidateList, CandidateView, EvaluationSummary
from service.schemas.estimates import EstimatedCandidate, EstimateView
from service.schemas.evaluations import CurvePointView, DivergenceView, EvaluationView, StageView
from service.schemas.health import Health, Readiness
from service.schemas.leaderboards import EntryView, LeaderboardView, ProvenanceView
from service.schemas.recipes import RecipeView
from service.schemas.searches import SearchList, SearchView
from service.schemas.tasks import DataView, TaskList, TaskView
from service.schemas.workers import MissingDataView, WorkerList, WorkerView, WorkView

__all__ = [
    "CandidateList",
    "CandidateView",
    "CurvePointView",
    "DataView",
    "DivergenceView",
    "EntryView",
    "EstimateView",
    "EstimatedCandidate",
    "EvaluationSummary",
    "EvaluationView",
    "Health",
    "LeaderboardView",
    "MissingDataView",
    "ProvenanceView",
    "Readiness",
    "RecipeView",
    "SearchList",
    "SearchView",
    "StageView",
    "TaskList",
    "TaskView",
    "WorkView",
    "WorkerList",
    "WorkerView",
]
