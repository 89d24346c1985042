"""Chapter 6's verdicts: the paper's sentences on Fig. 5 (b), and the controls that it lacks."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import pandas as pd

from . import readable
from .ablation import KEPT, NEW
from .ablationanswers import (
    CONTROLS,
    STATISTICS,
    Answers,
    block_text,
    corrected,
    cost,
    more,
    more_by_draw,
    networks,
    zeroed_blocks,
)
from .bootstrap import ImageDifference, paired_bootstrap_mean
from .judge import verdict_row

ENOUGH = 6  # blocks; with fewer, hardly any lies between the middle and the last, and chance decides which costs most
PAPERS = "Fig. 5 (b)"
OURS = "Control of Fig. 5 (b), not in the paper"

Costs = dict[str, ImageDifference]  # by block


class _Group(NamedTuple):
    """Networks that differ in nothing but the seed: where they come from, and their answers."""

    name: str
    networks: list[Answers]


def verdict_rows(frame: pd.DataFrame) -> list[dict[str, str]]:
    """The paper's three sentences on Fig. 5 (b), and two controls, which it lacks: a row a claim, model and source.

    A source's networks of one model and α, one a seed, are judged one by one, then together: a claim is reproduced if
    it holds in all of them, not reproduced if it fails in more than half, and else nobody can tell. What is not the
    paper's is supported or not, by the same rule.

    In one network, all rests on 95 % intervals over images, with batch norm's statistics kept, as in the paper; what
    compares two treatments must hold with statistics estimated anew, too, or the shock to batch norm could be all that
    differs. What must hold of every block needs no correction; that one of several blocks speaks against a claim is
    asked at a corrected level.

    - Every block, and the first one: holds if zeroing it costs; fails if it helps (for every block: if one helps).
    - The biggest drop is late but not last ("between the middle and high layers"; conv4_4 is the 11th of ResNet50's 16
      blocks): holds if the costliest block of the second half, the last one left out, costs more than the costliest of
      the others; fails if it costs less. With fewer than `ENOUGH` blocks nobody can tell.
    - Zeroing the shuffled channels costs more than zeroing as many others, or un-shuffling: which others is drawn, and
      draws differ by more than images do. So it holds if in every block the interval against *each* draw lies above 0,
      and fails if in one block the interval against each draw lies below.

    Args:
        frame: As in `ablationtables.ablation_table`; without rows there are no verdicts.
    """
    rows = []
    for group in _groups(frame):
        rows += [_every(group), _biggest(group), _first(group)]
        rows += [row for control in CONTROLS if (row := _against(group, control))]
    return rows


def _groups(frame: pd.DataFrame) -> Iterator[_Group]:
    found: dict[tuple, list[tuple[dict, Answers]]] = {}
    for at, answers in networks(frame):
        found.setdefault((at["source"], at["model"], at["alpha"]), []).append((at, answers))
    for (source, model, alpha), members in found.items():
        seeds = ", ".join(str(at["seed"]) for at, _ in members)
        network = f"{readable.model_text(model)}, α = {readable.alpha_text(alpha)}"
        yield _Group(
            f"{network}, seed{'s' * (len(members) > 1)} {seeds}; {source}", [answers for _, answers in members]
        )


def _every(group: _Group) -> dict[str, str]:
    found = {bn: [_costs(answers, bn) for answers in group.networks] for bn in STATISTICS}
    helps = []
    for answers in group.networks:
        blocks = zeroed_blocks(answers)
        helps.append(any(cost(answers, b, level=corrected(len(blocks))).high < 0 for b in blocks))
    holds = [all(one.low > 0 for one in of.values()) for of in found[KEPT]]
    evidence = f"Zeroing raises the error {_in_blocks(found[KEPT], _is_above)}, {_by(found[KEPT])}"
    evidence += _anew(found[NEW], _is_above) + _images(group, _all_of(found[KEPT]))
    claim = "Zeroing the shuffled channels of any block degrades the performance"
    return _row(claim, group, evidence, holds, helps)


def _first(group: _Group) -> dict[str, str]:
    found = {bn: [] for bn in STATISTICS}
    for answers in group.networks:
        first = zeroed_blocks(answers)[0]
        for bn in STATISTICS:
            found[bn] += [{first: one}] if (one := cost(answers, first, bn)) else []
    costs = _all_of(found[KEPT])
    evidence = f"Zeroing raises the error {_by(found[KEPT])}{_in_networks(found[KEPT], _is_above)}"
    if found[NEW]:
        evidence += f"; with batch norm's statistics estimated anew {_by(found[NEW])}"
        evidence += _in_networks(found[NEW], _is_above)
    claim = "The performance is degraded even at the first block"
    evidence += _images(group, costs)
    return _row(claim, group, evidence, [one.low > 0 for one in costs], [one.high < 0 for one in costs])


def _biggest(group: _Group) -> dict[str, str]:
    claim = "The biggest drop is at a block between the middle and the last"
    count = min(len(zeroed_blocks(answers)) for answers in group.networks)
    compared = [one for answers in group.networks if (one := _late_against_others(answers))]
    if not compared:
        evidence = f"Of {count} blocks none lies between the middle and the last{_images(group, [])}"
        return _row(claim, group, evidence, [False], [False])
    differences = [difference for *_, difference in compared]
    evidence = _late_text(compared) + _images(group, differences)
    if count < ENOUGH:
        evidence += f"; but nobody can tell with fewer than {ENOUGH} blocks, and these are {count}"
        return _row(claim, group, evidence, [False], [False])
    return _row(claim, group, evidence, [one.low > 0 for one in differences], [one.high < 0 for one in differences])


def _late_against_others(answers: Answers) -> tuple[str, str, dict[str, float], ImageDifference] | None:
    """The costliest late block and the costliest of the others, all blocks' costs, and the difference of these two."""
    blocks = zeroed_blocks(answers)
    late = blocks[len(blocks) // 2 : -1]
    others = [block for block in blocks if block not in late]
    if not late:
        return None
    costs = {block: one.mean for block, one in _costs(answers, KEPT).items()}
    best, rival = (max(of, key=lambda block: costs[block]) for of in (late, others))
    level = corrected(len(late) * len(others))  # both are chosen by what they are judged by
    zeroed = (answers[block, "zeroed", KEPT] for block in (rival, best))
    return best, rival, costs, paired_bootstrap_mean(*zeroed, level=level)


def _late_text(compared: Sequence[tuple[str, str, dict[str, float], ImageDifference]]) -> str:
    if len(compared) == 1:
        ((best, rival, costs, difference),) = compared
        return (
            f"Of the late blocks {block_text(best)} costs most, {_number(costs[best])} points, of the others "
            f"{block_text(rival)}, {_number(costs[rival])}; difference {_points(difference)}"
        )
    late, others = (_tally(one[place] for one in compared) for place in (0, 1))
    above = sum(difference.low > 0 for *_, difference in compared)
    return (
        f"In {above} of {len(compared)} networks the costliest late block ({late}) costs more than the costliest of the"
        f" others ({others}), on average by {_pooled([difference.mean for *_, difference in compared])} points"
    )


def _against(group: _Group, control: str) -> dict[str, str] | None:
    """Zeroing against a control; None if that was not measured."""
    measured = [of for of in group.networks if any((b, control, KEPT) in of for b in zeroed_blocks(of))]
    if not measured:
        return None
    means = {bn: [_present(more, of, control, bn) for of in measured] for bn in STATISTICS}
    drawn = {bn: [_present(more_by_draw, of, control, bn) for of in measured] for bn in STATISTICS}
    of_both = zip(drawn[KEPT], drawn[NEW], strict=True)
    holds = [all(map(_is_above, [*kept.values(), *new.values()])) for kept, new in of_both]
    less = []
    for of in measured:
        strictly = _present(more_by_draw, of, control, KEPT, corrected(len(zeroed_blocks(of))))
        less.append(any(all(one.high < 0 for one in draws) for draws in strictly.values()))
    several = max(len(draws) for of in drawn[KEPT] for draws in of.values()) > 1
    each = "above every draw " if several else ""
    evidence = f"Zeroing costs more, {each}{_in_blocks(drawn[KEPT], _is_above)}, {_by(means[KEPT])}"
    if several:
        evidence += ", in the mean over draws"
    evidence += _anew(means[NEW], _is_above, drawn[NEW], each)
    evidence += _images(group, [one for of in drawn[KEPT] for draws in of.values() for one in draws])
    what = {"others_zeroed": "zeroing as many others", "unshuffled": "un-shuffling them"}[control]
    claim = f"Zeroing the shuffled channels costs more than {what}"
    return _row(claim, group, evidence, holds, less, OURS)


def _row(
    claim: str, group: _Group, evidence: str, holds: Sequence[bool], fails: Sequence[bool], where: str = PAPERS
) -> dict[str, str]:
    yes = "reproduced" if where == PAPERS else "supported"
    outcome = yes if all(holds) else f"not {yes}" if 2 * sum(fails) > len(fails) else "cannot tell"
    return verdict_row(claim, f"{where}; {group.name}", evidence, outcome)


def _costs(answers: Answers, bn: str) -> Costs:
    return {b: one for b in zeroed_blocks(answers) if (one := cost(answers, b, bn))}


def _present(of: Callable, answers: Answers, *arguments: str | float) -> dict:
    """What a function gives for each zeroed block that it was measured of."""
    return {b: one for b in zeroed_blocks(answers) if (one := of(answers, b, *arguments))}


def _is_above(found: ImageDifference | list[ImageDifference]) -> bool:
    """Whether the interval lies above 0, or each of several."""
    return all(one.low > 0 for one in found) if isinstance(found, list) else found.low > 0


def _all_of(found: Sequence[Costs]) -> list[ImageDifference]:
    return [one for of in found for one in of.values()]


def _in_blocks(found: Sequence[dict], holds: Callable) -> str:
    """In how many blocks of a network, or in how many networks in every block."""
    counts = [(sum(holds(one) for one in of.values()), len(of)) for of in found]
    if len(counts) == 1:
        return "in {} of {} blocks".format(*counts[0])
    return f"in every block in {sum(k == n for k, n in counts)} of {len(counts)} networks"


def _in_networks(found: Sequence[Costs], holds: Callable) -> str:
    count = sum(holds(one) for one in _all_of(found))
    return f", in {count} of {len(found)} networks" if len(found) > 1 else ""


def _anew(found: Sequence[Costs], holds: Callable, judged: Sequence[dict] | None = None, each: str = "") -> str:
    if not any(found):
        return ""
    where = _in_blocks(found if judged is None else judged, holds)
    return f"; with batch norm's statistics estimated anew {each}{where}, {_by(found)}"


def _images(group: _Group, found: Sequence[ImageDifference]) -> str:
    """How many images there were, and what could have been seen on them."""
    n = {next(iter(answers.values())).shape[1] for answers in group.networks}
    counts = " to ".join(f"{count:,}" for count in sorted({min(n), max(n)}))
    seen = [one.detectable for one in found if not one.degenerate]
    text = f"; over {counts} images{' a network' * (len(group.networks) > 1)}"
    if not seen:
        return f"{text}, none of which is answered differently" if found else text
    power = "80 % power" + ", in the worst case" * (len(seen) > 1)
    return f"{text}, where {_number(max(seen))} points could have been seen ({power})"


def _by(found: Sequence[Costs]) -> str:
    return f"{'on average ' * (len(found) > 1)}by {_listed(found)}"


def _listed(found: Sequence[Costs]) -> str:
    """The numbers of each block: with the interval, or the mean over several networks and the range."""
    if len(found) == 1:
        return ", ".join(f"{_points(one)} ({block_text(block)})" for block, one in found[0].items())
    blocks = dict.fromkeys(block for of in found for block in of)
    means = {block: [of[block].mean for of in found if block in of] for block in blocks}
    return ", ".join(f"{_pooled(of)} ({block_text(block)})" for block, of in means.items())


def _pooled(means: Sequence[float]) -> str:
    return f"{_number(sum(means) / len(means))} [range {_number(min(means))} to {_number(max(means))}]"


def _tally(blocks: Iterator[str]) -> str:
    counts = Counter(map(block_text, blocks))
    return ", ".join(f"{name} in {count}" for name, count in counts.most_common())


def _points(one: ImageDifference) -> str:
    return f"{_number(one.mean)} [{_number(one.low)}, {_number(one.high)}]"


def _number(points: float) -> str:
    return f"{points:.2f}".replace("-", "−")
