"""The page of a reproduction: the published accuracy, ours as recorded, and ours as measured now, per network."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from fer_edge.artifacts.accuracy_records import EvaluationRecord, TrainingRecord, read_accuracy_records
from fer_edge.artifacts.latency_records import LatencyRecord
from fer_edge.artifacts.mean_ci import MeanCI
from fer_edge.benchmarks.experiment_log import latest_evaluations
from fer_edge.benchmarks.paper.comparison_page import TITLES, newest_series
from fer_edge.benchmarks.paper.paper_results import PUBLISHED
from fer_edge.benchmarks.paper.paper_tables import paper_tables
from fer_edge.benchmarks.paper.series import COMPARED_DATA, Series, all_series, compared_runs
from fer_edge.benchmarks.tables import NOT_MEASURED, markdown_table, text_table

# Recorded results of the project. A clone has them, an installed wheel does not.
RECORDED = Path(__file__).parents[1] / "results" / "accuracy.jsonl"
DEVIATION = re.compile(r" ± [\d.]+")
PROTOCOLS = {"paper": "paper protocol", "subject": "new people"}

PAGE = """# Reproduction of the published comparison

{facts}

{table}

- **published**: test accuracy in the paper (Almsari, Miry and Salman, 2024), on CK+ with a random division.
- **paper protocol**: the random division of the paper. The same people are in training and test, so this accuracy is too high
  for practice. **new people**: no person is in both.
- Under both protocols: accuracy of this reproduction, mean ± standard deviation (number of runs). **ours**: the mean in our
  records.
- **int8**: accuracy of the int8 files minus that of the Keras models, percentage points, over the runs that were converted.
- **ms**: median time per face of one int8 file, one thread, on {board}.

[Tables 5 to 8]({tables}) of the paper, with these results.
"""


@dataclass(frozen=True)
class Reproduction:
    """What a reproduction has measured.

    Attributes:
        networks: Names of the networks, in the order of the table.
        trainings: Its training records.
        evaluations: Its evaluation records.
        latencies: Its latency records.
        facts: Lines about the data, the machine and the parts left out, for the page.
    """

    networks: Sequence[str]
    trainings: Sequence[TrainingRecord]
    evaluations: Sequence[EvaluationRecord]
    latencies: Sequence[LatencyRecord]
    facts: Sequence[str]


def reproduction_pages(reproduction: Reproduction, source: str, tables: str) -> tuple[str, str]:
    """Return the pages as markdown: the summary, and tables 5 to 8 of the paper with the results next to them.

    Args:
        reproduction: The measurements.
        source: Name of the file with the records.
        tables: Name of the file for the second page.
    """
    header, rows = _summary(reproduction)
    trainings, evaluations = _as_compared_data(reproduction)
    boards = dict.fromkeys(record.environment.title for record in reproduction.latencies)
    page = PAGE.format(
        facts="\n".join(f"- {fact}" for fact in reproduction.facts),
        table=markdown_table(header, rows),
        board=" or ".join(boards) or "no machine yet",
        tables=tables,
    )
    runs = compared_runs(trainings, evaluations)
    return page, paper_tables(runs, trainings, evaluations, source, command="fer-edge reproduce ck48")


def summary_table(reproduction: Reproduction) -> str:
    """Return the summary for terminals, at most 100 columns wide: without deviations and sizes."""
    header, rows = _summary(reproduction)
    shown = [column for column, title in enumerate(header) if title != "MB"]
    brief = [[DEVIATION.sub("", row[column]) for column in shown] for row in rows]
    return text_table([header[column] for column in shown], brief)


def _as_compared_data(reproduction: Reproduction) -> tuple[list[TrainingRecord], list[EvaluationRecord]]:
    """Return the records under the name of the compared data, whatever the file of the user is called."""
    trainings = [replace(record, data=COMPARED_DATA) for record in reproduction.trainings]
    return trainings, latest_evaluations([replace(record, data=COMPARED_DATA) for record in reproduction.evaluations])


def _summary(reproduction: Reproduction) -> tuple[list[str], list[list[str]]]:
    here = all_series(compared_runs(*_as_compared_data(reproduction)))
    recorded = all_series(compared_runs(*read_accuracy_records(RECORDED)))
    times = {record.network: record for record in reproduction.latencies if record.samples_ms}
    header = ["network", "published"]
    for title in PROTOCOLS.values():
        header += [title, "ours"]
    header += ["int8", "MB", "ms"]
    rows = []
    for name in reproduction.networks:
        row = [TITLES[name], f"{PUBLISHED[name].test_accuracy:.3f}" if name in PUBLISHED else "-"]
        ours = [newest_series(here, name, protocol) for protocol in PROTOCOLS]
        for protocol, series in zip(PROTOCOLS, ours, strict=True):
            row += [_cell(series), _mean(newest_series(recorded, name, protocol))]
        timed = times.get(name)
        size = f"{timed.file_bytes / 1e6:.2f}" if timed else NOT_MEASURED
        latency = f"{np.median(timed.samples_ms):.2f}" if timed else NOT_MEASURED
        rows.append([*row, _int8_change([series for series in ours if series]), size, latency])
    return header, rows


def _cell(series: Series | None) -> str:
    if series is None:
        return NOT_MEASURED
    mean: MeanCI = series.mean()
    return f"{mean.mean:.3f} (1)" if mean.runs == 1 else f"{mean.mean:.3f} ± {mean.deviation:.3f} ({mean.runs})"


def _mean(series: Series | None) -> str:
    return f"{series.mean().mean:.3f}" if series else "-"


def _int8_change(series: Sequence[Series]) -> str:
    """Return the mean change of the accuracy by conversion, over all converted runs, percentage points."""
    files = [run.int8_file for part in series for run in part.runs]
    changes = [file.accuracy_after - file.accuracy_before for file in files if file]
    return f"{100 * float(np.mean(changes)):+.2f}" if changes else NOT_MEASURED
