"""The balance search written out as plainly as the definition reads: one query, one threshold, one cap at a time."""

from __future__ import annotations


def ranked(responses, dedup, correct_above=None):
    """(text, reward, correct) of one query by descending reward, copies dropped at the asked place."""
    rows = sorted(responses, key=lambda row: -row[1])
    if correct_above is not None:
        rows = [(text, reward, reward > correct_above) for text, reward, _ in rows]
    if dedup == "before_cap":
        kept, seen = [], set()
        for row in rows:
            if row[0] not in seen:
                kept.append(row)
                seen.add(row[0])
        rows = kept
    return rows


def selected(rows, threshold, cap):
    """The first `cap` rows above the threshold, then without copies."""
    above = [row for row in rows if row[1] > threshold][:cap]
    distinct: dict = {}
    for row in above:
        distinct.setdefault(row[0], row)
    return list(distinct.values())


def balance(queries, threshold, target, n_star, dedup, empty, max_cap=64):
    """(balance score, cap) of one threshold over all queries."""
    pools = [ranked(query, dedup) for query in queries]
    cap = max_cap
    if target is not None:
        for k in range(1, max_cap + 1):
            if sum(len(selected(pool, threshold, k)) for pool in pools) >= target:
                cap = k
                break
    scores = []
    for pool in pools:
        rows = selected(pool, threshold, cap)
        if not rows:
            if empty == "zero":
                scores.append(0.0)
            continue
        correct = sum(1 for row in rows if row[2])
        scores.append(min(correct / n_star, 1) * correct / len(rows))
    return (sum(scores) / len(scores) if scores else 0.0), cap
