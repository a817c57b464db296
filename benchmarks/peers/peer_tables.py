"""Tables of fer-edge and other packages, for terminals and the documentation."""

from collections.abc import Sequence

from fer_edge.benchmarks.intervals import accuracy_interval
from fer_edge.benchmarks.peers.catalog import PEERS
from fer_edge.benchmarks.peers.peer_records import FacesResult, PeerRecord
from fer_edge.benchmarks.report_page import Cell, Table
from fer_edge.benchmarks.tables import NOT_MEASURED, markdown_table, text_table

ACCURACY_HEADER = ("package", "PublicTest", "FER+ majority", "agreement", "CK+48", "heads found", "labeled right")
COST_HEADER = ("package", "version", "model KB", "installed MB", "import s", "ms per face", "ms per image")

COST_FORMS = (",.0f", ",.0f", ",.2f", ".2f", ".1f")  # of the columns after the version
REPORTED_FACES = ("fer2013", "fer2013 majority", "ck48")


def text_rows(records: Sequence[PeerRecord]) -> str:
    """Return the last record of each package as one table for terminals, with the reasons below it."""
    last = _last(records)
    header = (*ACCURACY_HEADER, *COST_HEADER[2:])
    rows = [(*_accuracy_row(record, short=True), *_cost_row(record)[2:]) for record in last if not record.reason]
    reasons = [f"{record.peer}: not measured: {record.reason}" for record in last if record.reason]
    return "\n".join([text_table(header, rows), *([""] if reasons else []), *reasons])


def peers_section(records: Sequence[PeerRecord]) -> str:
    """Return the tables of the documentation, from the last record of each package: accuracy, cost, claims, notes."""
    last = _last(records)
    measured = [record for record in last if not record.reason]
    others = {name: peer for name, peer in PEERS.items() if peer.registry != "fer-edge" and not peer.reason}
    claims = [(name, peer.claim, peer.source) for name, peer in others.items()]
    reasons = [f"- {record.peer}: {record.reason}." for record in last if record.reason]
    notes = [f"- {name}: {peer.note}" for name, peer in PEERS.items() if peer.note]
    machines = dict.fromkeys(f"{record.date} on {record.environment.title}" for record in measured)
    loads = [record.before.load_1min for record in measured if record.before.load_1min is not None]
    load = f"; load of the machine {min(loads):.0f} to {max(loads):.0f}" if loads else ""
    return "\n\n".join(
        [
            f"Measured {', '.join(machines)}{load}.",
            "### Accuracy",
            markdown_table(ACCURACY_HEADER, [_accuracy_row(record) for record in measured]),
            "### Cost",
            markdown_table(COST_HEADER, [_cost_row(record) for record in measured]),
            "### Claims of the packages",
            markdown_table(("package", "claim", "source"), claims),
            "### What a user meets",
            "\n".join(notes),
            "### Not measured",
            "\n".join(reasons) or "None.",
        ]
    )


def report_table(records: Sequence[PeerRecord]) -> Table:
    """Return the last record of each measured package as a table for the report of a comparison.

    Args:
        records: All records.
    """
    rows = []
    for record in _last(records):
        if record.reason:
            continue
        results = map(record.faces.get, REPORTED_FACES)
        accuracies = [None if result is None else (result.accuracy, result.faces) for result in results]
        portraits = record.portraits
        accuracies.append(None if portraits is None else (portraits.correct, portraits.images))
        rows.append(
            (
                Cell(record.peer, record.peer),
                *(_accuracy_cell(accuracy) for accuracy in accuracies),
                *(Cell(text, value) for text, value in zip(_cost_row(record)[2:], _costs(record), strict=True)),
            )
        )
    return Table(("package", "PublicTest", "FER+ majority", "CK+48", "labeled right", *COST_HEADER[2:]), tuple(rows))


def _accuracy_cell(accuracy: tuple[float, int] | None) -> Cell:
    if accuracy is None:
        return Cell(NOT_MEASURED)
    value, count = accuracy
    low, high = accuracy_interval(value, count)
    return Cell(f"{100 * value:.1f} %", value, f"{100 * low:.1f} to {100 * high:.1f} %, {count:,} images")


def _last(records: Sequence[PeerRecord]) -> list[PeerRecord]:
    """Return the last record of each package, in the order of the catalog."""
    last = {record.peer: record for record in records}
    return [last[name] for name in PEERS if name in last]


def _accuracy_row(record: PeerRecord, short: bool = False) -> tuple[str, ...]:
    faces, majority = record.faces.get("fer2013"), record.faces.get("fer2013 majority")
    portraits = record.portraits
    whole = (NOT_MEASURED, NOT_MEASURED)
    if portraits:
        whole = (_fraction(portraits.found, portraits.images, short), _fraction(portraits.correct, portraits.images, short))
    return (
        record.peer,
        _accuracy(faces, short),
        _accuracy(majority, short),
        NOT_MEASURED if majority is None or majority.agreement is None else f"{majority.agreement:.3f}",
        _accuracy(record.faces.get("ck48"), short),
        *whole,
    )


def _cost_row(record: PeerRecord) -> tuple[str, ...]:
    version = next(iter(record.versions.values()), NOT_MEASURED)
    texts = (
        NOT_MEASURED if value is None else format(value, form) for value, form in zip(_costs(record), COST_FORMS, strict=True)
    )
    return (record.peer, version, *texts)


def _costs(record: PeerRecord) -> tuple[float | None, ...]:
    """Return the values of the columns of COST_HEADER after the version."""
    times = [result.p50_ms for result in record.faces.values()]
    return (
        None if record.model_bytes is None else record.model_bytes / 1e3,
        None if record.installed_bytes is None else record.installed_bytes / 1e6,
        record.import_s,
        times[0] if times else None,
        record.portraits.p50_ms if record.portraits else None,
    )


def _accuracy(result: FacesResult | None, short: bool) -> str:
    return NOT_MEASURED if result is None else _fraction(result.accuracy, result.faces, short)


def _fraction(value: float, count: int, short: bool) -> str:
    """Return a fraction with its 95 % interval and the number of images."""
    low, high = accuracy_interval(value, count)
    return f"{value:.3f}" if short else f"{value:.3f} ({low:.3f} to {high:.3f}, n = {count})"
