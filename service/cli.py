"""The ``quantrank`` command: its words. What a command does is in ``service.commands``, loaded when it runs."""

from __future__ import annotations

import argparse
import importlib
import os
import signal
import sys
from typing import Any

from service.own_processes import ending_at_signals, leave_current_folder_out

BLOCK_HELP = "comma-separated block kinds (default: the task's, as GET /tasks lists them)"
ARCHITECTURES_HELP = "comma-separated names or aliases, in place of blocks, depths and widths"


def main(arguments: list[str] | None = None) -> int:
    """Runs a command; returns its exit status: 0, 1 for a failure, 2 for unusable input."""
    if arguments is None:  # this process is the command's
        leave_current_folder_out()
    parsed = _parsed(arguments)
    with ending_at_signals():
        return _run(parsed)


def _parsed(arguments: list[str] | None) -> argparse.Namespace:
    parser = _parser()
    parsed, unknown = parser.parse_known_args(arguments)
    if unknown:
        from qcore.wording import did_you_mean

        commands = next(each for each in parser._actions if isinstance(each, argparse._SubParsersAction)).choices
        options = [each for each in commands[parsed.command]._option_string_actions if each.startswith("--")]
        meant = did_you_mean(unknown[0].partition("=")[0], options) if unknown[0].startswith("-") else None
        told = f"{' '.join(unknown)} {'are' if len(unknown) > 1 else 'is'} not known"
        commands[parsed.command].error("; ".join(filter(None, (told, meant))))
    return parsed


def _run(parsed: argparse.Namespace) -> int:
    if parsed.exit_with is not None:
        from qcore.processes import end_with_parent

        if os.getppid() != parsed.exit_with:
            return 0
        # As whoever stops a command asks it to end: every command heeds it.
        end_with_parent(parsed.exit_with, lambda: os.kill(os.getpid(), signal.SIGTERM))
    command = importlib.import_module(f"service.commands.{parsed.command}")
    from qcore.errors import InvalidInput

    try:
        status: int = command.run(parsed)
    except InvalidInput as error:
        print(f"quantrank: {error}", file=sys.stderr)  # noqa: T201
        return 2
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # the reader, e.g. head, has seen enough
        sys.stderr.close()
        return 1
    except Exception as error:
        from service.failures import in_words

        told = in_words(error)
        if told is None:
            raise
        print(f"quantrank: {told[1]}", file=sys.stderr)  # noqa: T201
        return told[0]
    return status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="quantrank",
        description="Which architecture, within my parameter budget, still works after 2-bit quantization?",
        epilog="Settings: QUANTRANK_HOME, _DATABASE_URL, _ARTIFACTS, _DATASETS, _URL, _PORT, _API_KEY, _LEASE_SECONDS. "
        "`quantrank COMMAND --help` says more of each command.",
    )
    parser.add_argument("--version", action=_Version, nargs=0, help="print the version and exit")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    search = _add(commands, "search", "search the architectures within a budget, or several, and rank them")
    search.add_argument("--task", required=True, help="name of a task, e.g. digits")
    _add_budgets(search)
    search.add_argument("--blocks", type=_names, help=BLOCK_HELP)
    search.add_argument("--depths", type=_numbers, help="comma-separated depths L (default: each block's own list)")
    search.add_argument("--widths", type=_numbers, help="comma-separated widths D (default: the widest that fits)")
    search.add_argument("--architectures", type=_names, metavar="NAMES", help=ARCHITECTURES_HELP)
    search.add_argument("--bit-widths", type=_names, help="comma-separated, the first ranks (default: W2A2,W2AF,WFA2)")
    search.add_argument("--engine", help="where it runs: on workers (optuna, the default) or on a Ray cluster (ray)")
    search.add_argument("--sampler", help="which candidate comes next: grid, random, tpe or gp (default: tpe)")
    search.add_argument("--minimize", help="with tpe: parameters or bit_operations, to be small beside accuracy")
    search.add_argument(
        "--rungs",
        type=_fractions,
        metavar="SHARES",
        help="successive halving, e.g. 0.15: all candidates at so much of the recipe, the best in full",
    )
    search.add_argument("--promoted-share", type=_number, metavar="S", help="of a rung to the next (default: 0.25)")
    search.add_argument("--seeds", type=_numbers, help="comma-separated seeds (default: 0)")
    search.add_argument("--max-seeds", type=_whole_number, metavar="N", help="repeat the best with up to so many seeds")
    search.add_argument(
        "--top", type=_whole_number, metavar="K", help="how many of the best to tell apart (default: 1)"
    )
    search.add_argument(
        "--indifference-margin", type=_number, metavar="P", help="points that need no further seeds (default: 0.5)"
    )
    _add_limits(search)
    search.add_argument("--priority", type=_whole_number, metavar="P", help="higher ones are served first (default: 0)")
    search.add_argument("--recipe", type=_recipe, help="a recipe's name, or overrides as a JSON object")
    search.add_argument("--estimate", action="store_true", help="print candidates and expected hours, and post nothing")
    search.add_argument("--watch", action="store_true", help="show progress until the end, then the leaderboard")
    _add_url(search)

    watch = _add(commands, "watch", "follow a search to its end, then print its leaderboard")
    watch.add_argument("search", type=_whole_number, metavar="SEARCH", help="its number")
    _add_url(watch)

    extend = _add(commands, "extend", "give a search other limits, so that it goes on")
    extend.add_argument("search", type=_whole_number, metavar="SEARCH", help="its number")
    _add_limits(extend)
    _add_url(extend)

    leaderboard = _add(commands, "leaderboard", "the leaderboard of a task, over all searches")
    leaderboard.add_argument("--task", required=True)
    leaderboard.add_argument("--recipe", help="a recipe's name, or overrides as a JSON object")
    leaderboard.add_argument("--bit-widths", type=_names, help="comma-separated, the first ranks")
    leaderboard.add_argument("--block", help="one block kind only")
    leaderboard.add_argument("--search", type=_whole_number, metavar="SEARCH", help="candidates of this search only")
    leaderboard.add_argument("--max-parameters", type=_whole_number, metavar="N")
    leaderboard.add_argument("--max-model-bytes", type=_whole_number, metavar="N", help="at the ranking bit widths")
    leaderboard.add_argument("--max-bit-operations", type=_whole_number, metavar="N", help="at the ranking bit widths")
    leaderboard.add_argument(
        "--sort", metavar="KEY", help="upwards, or -KEY downwards: rank (default), parameters, ..."
    )
    leaderboard.add_argument("--limit", type=_whole_number, metavar="N", help="no more than so many (default: all)")
    _add_url(leaderboard)

    describe = _add(commands, "describe", "parameters, MACs, bit operations and bytes of an architecture")
    describe.add_argument("architecture", help="e.g. basic-L14-D40, mobilenetv2-x0.5 or an alias, as resnet20-x2")
    describe.add_argument("--task", required=True, help="its inputs and classes shape the network")
    describe.add_argument("--bit-widths", type=_names, help="comma-separated (default: W2A2,W2AF,WFA2)")
    describe.add_argument("--recipe", type=_recipe, help="a recipe's name, or overrides: some layers' bits are its")

    candidates = _add(commands, "candidates", "the architectures within a budget, or several")
    candidates.add_argument("--task", required=True)
    _add_budgets(candidates)
    candidates.add_argument("--blocks", type=_names, help=BLOCK_HELP)
    candidates.add_argument("--depths", type=_numbers)
    candidates.add_argument("--widths", type=_numbers)
    candidates.add_argument("--architectures", type=_names, metavar="NAMES", help=ARCHITECTURES_HELP)
    candidates.add_argument(
        "--bit-widths", type=_names, help="comma-separated, the first ranks (default: W2A2,W2AF,WFA2)"
    )
    candidates.add_argument("--recipe", type=_recipe, help="a recipe's name, or overrides: some layers' bits are its")

    evaluate = _add(commands, "evaluate", "train one architecture and retrain it quantized, without a server")
    evaluate.add_argument("architecture", help="e.g. basic-L8-D8, mobilenetv2-x0.5 or an alias, as resnet20-x2")
    evaluate.add_argument("--task", required=True)
    evaluate.add_argument("--bit-widths", type=_names, help="comma-separated (default: W2A2,W2AF,WFA2)")
    evaluate.add_argument("--seed", type=_whole_number, default=0)
    evaluate.add_argument("--recipe", type=_recipe, help="a recipe's name, or overrides as a JSON object")
    evaluate.add_argument("--save", metavar="DIR", help="write each stage's network there, as safetensors")
    _add_device(evaluate)

    reproduce = _add(commands, "reproduce", "run a figure or table of the paper, and print it beside the published one")
    reproduce.add_argument("experiment", help="figure-1 to figure-12, table-1 to table-5, or lsq-comparison")
    reproduce.add_argument(
        "--scale", choices=["smoke", "cpu", "paper"], default="cpu", help="how much is trained (default: cpu)"
    )
    reproduce.add_argument("--output", metavar="FILE", help="draw the picture there, .png or .svg")
    reproduce.add_argument("--seeds", type=_numbers, help="comma-separated (default: as many as the scale asks)")
    reproduce.add_argument(
        "--policy", type=_names, help="weights of first and last layer: some of float,8,same, where it is relevant"
    )
    reproduce.add_argument(
        "--workers", type=_whole_number, metavar="N", help="processes of one thread (default: all cores)"
    )

    export = _add(commands, "export", "write a trained network as a file to ship")
    export.add_argument("evaluation", metavar="EVALUATION", help="its number, or a file that `evaluate --save` wrote")
    export.add_argument("--format", required=True, choices=["onnx", "packed", "safetensors"])
    export.add_argument("--bit-widths", help="e.g. W2A2, or float (default: W2A2, or else those that rank)")
    export.add_argument("--stage", metavar="KEY", help="the stage's key or its beginning, to choose among recipes")
    export.add_argument("--output", metavar="FILE", help="default: named after architecture, task and bit widths")
    export.add_argument("--with-codes", action="store_true", help="onnx: output every activation's codes too")

    measure = _add(commands, "measure", "what quantization does inside a trained network, layer by layer")
    measure.add_argument("evaluation", metavar="EVALUATION", help="its number, or a file that `evaluate --save` wrote")
    measure.add_argument("--bit-widths", help="e.g. W2A2 (default: W2A2, or else those that rank)")
    measure.add_argument("--stage", metavar="KEY", help="the stage's key or its beginning, to choose among recipes")
    measure.add_argument(
        "--examples", type=_whole_number, default=256, metavar="N", help="test examples, 1 to 1000 (default: 256)"
    )
    measure.add_argument("--threads", type=_whole_number, default=1, metavar="N", help="threads (default: 1)")

    packing = _add(commands, "packing", "measure how many workers this machine, or its GPU, should have")
    packing.add_argument("architecture", help="a typical candidate, e.g. basic-L20-D6")
    packing.add_argument("--task", required=True)
    packing.add_argument("--recipe", type=_recipe, help="a recipe's name, or overrides as a JSON object")
    packing.add_argument("--device", help="cpu, cuda or cuda:<index> (default: QUANTRANK_DEVICE, or cpu)")
    packing.add_argument("--seconds", type=_number, default=5.0, metavar="S", help="of each measurement (default: 5)")

    gc = _add(commands, "gc", "remove files from the artifact store that nothing needs any more")
    gc.add_argument("--dry-run", action="store_true", help="say what would be removed, and remove nothing")
    gc.add_argument(
        "--older-than",
        type=_number,
        default=1.0,
        metavar="DAYS",
        help="keep what was written since (default: 1; at least an hour)",
    )
    gc.add_argument(
        "--keep-top",
        type=_whole_number,
        metavar="N",
        help="remove networks too, except of the N best of every task and recipe",
    )

    serve = _add(commands, "serve", "run the API, the page and worker processes", json=False)
    serve.add_argument("--host", default="127.0.0.1")
    serve.add_argument("--port", type=_whole_number, help="0 for any free one (default: QUANTRANK_PORT or 8000)")
    serve.add_argument("--workers", type=_whole_number, default=1, metavar="N", help="worker processes (default: 1)")
    _add_device(serve)

    worker = _add(commands, "worker", "run evaluations for a server, on this host", json=False)
    worker.add_argument(
        "--concurrency",
        type=_whole_number,
        default=1,
        metavar="N",
        help="processes, of one evaluation each (default: 1)",
    )
    worker.add_argument(
        "--check", action="store_true", help="print whether a worker could work here, and end: 0 if so, 1 if not"
    )
    worker.add_argument("--json", action="store_true", help="with --check: print JSON")
    worker.add_argument("--all-gpus", action="store_true", help="so many processes on each GPU of this host")
    worker.add_argument("--id", help=argparse.SUPPRESS)
    worker.add_argument("--cores", type=_whole_number, help=argparse.SUPPRESS)
    worker.add_argument("--processes", type=_whole_number, default=1, help=argparse.SUPPRESS)
    _add_device(worker)

    ray = _add(commands, "ray", "run the evaluations of searches with --engine ray on a Ray cluster", json=False)
    ray.add_argument(
        "--address",
        default="local",
        help="local: start Ray on this host (default); auto: the cluster this host is part of; <host>:6379; "
        "ray://<host>:10001, from outside the cluster. Other hosts need PostgreSQL",
    )
    ray.add_argument("--cpus-per-trial", type=_number, metavar="N", help="cores for an evaluation (default: --threads)")
    ray.add_argument(
        "--gpus-per-trial", type=_number, metavar="X", help="share of a GPU, as `quantrank packing` says (default: 1)"
    )
    ray.add_argument(
        "--memory-per-trial", type=_number, metavar="GB", help="memory set aside (default: as measured, or estimated)"
    )
    _add_device(ray)
    workers = _add(commands, "workers", "the workers of a server: devices, current work, data they lack")
    _add_url(workers)

    keys = _add(commands, "keys", "API keys, for a server that other hosts reach", json=False)
    actions = keys.add_subparsers(dest="action", required=True, metavar="ACTION")
    create = _add(actions, "create", "make a key and print it, this once")
    create.add_argument("name", metavar="NAME", help="whose it is, or what for")
    create.add_argument(
        "--role",
        choices=["read", "submit", "admin"],
        default="submit",
        help="see everything; post searches and change one's own (default); change everybody's",
    )
    allowances = create.add_argument_group("limits", "of what its holder may ask for (default: none)")
    allowances.add_argument("--max-running", type=_whole_number, metavar="N", help="searches that run at once")
    for budget in ("parameter", "model-bytes", "bit-operations"):
        purpose = f"a search has to give a --{budget}-budget, of at most N"
        allowances.add_argument(f"--max-{budget}-budget", type=_whole_number, metavar="N", help=purpose)
    purpose = "a search has to give --max-evaluations, of at most N"
    allowances.add_argument("--max-evaluations", type=_whole_number, metavar="N", help=purpose)
    _add(actions, "list", "keys, their roles and when they were last used")
    revoke = _add(actions, "revoke", "let a key in no more")
    revoke.add_argument("number", type=_whole_number, metavar="NUMBER", help="as `quantrank keys list` shows it")

    db = _add(commands, "db", "look after the database")
    db.add_argument("action", choices=["upgrade"], help="bring the tables to this release's")
    return parser


def _add(commands: Any, name: str, purpose: str, *, json: bool = True) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(
        name, help=purpose, description=f"{purpose[0].upper()}{purpose[1:]}."
    )
    parser.add_argument("--exit-with", type=_whole_number, metavar="PID", help=argparse.SUPPRESS)
    if json:
        parser.add_argument("--json", action="store_true", help="print JSON")
    return parser


def _add_limits(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--max-evaluations", type=_whole_number, metavar="N", help="most newly trained evaluations, rungs' too"
    )
    parser.add_argument("--time-limit", dest="time_limit_s", type=_number, metavar="S", help="seconds")
    parser.add_argument("--target-accuracy", type=_number, metavar="P", help="percent at which the search is content")


def _add_budgets(parser: argparse.ArgumentParser) -> None:
    budgets = parser.add_argument_group("budgets", "at least one; bytes and bit operations at the ranking bit widths")
    budgets.add_argument("--parameter-budget", type=_whole_number, metavar="N", help="most trainable parameters")
    budgets.add_argument("--model-bytes-budget", type=_whole_number, metavar="N", help="most bytes as deployed")
    budgets.add_argument(
        "--bit-operations-budget", type=_whole_number, metavar="N", help="most bit operations for one input"
    )


def _add_url(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--url", help="the server (default: QUANTRANK_URL, or the one running on this host)")


def _add_device(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--device", help="cpu, cuda or cuda:<index> (default: QUANTRANK_DEVICE, or cpu)")
    parser.add_argument(
        "--threads", type=_whole_number, default=1, metavar="N", help="threads of one training run (default: 1)"
    )


def _names(text: str) -> list[str]:
    return [part.strip() for part in text.split(",")]


def _numbers(text: str) -> list[int]:
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a comma-separated list of whole numbers") from None


def _whole_number(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number") from None


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number") from None


def _fractions(text: str) -> list[float]:
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a comma-separated list of numbers") from None


def _recipe(text: str) -> str | dict[str, Any]:
    from searcher.named import recipe_from_text

    try:
        return recipe_from_text(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


class _Version(argparse.Action):
    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        from importlib.metadata import version

        parser.exit(message=f"quantrank {version('quantrank')}\n")
