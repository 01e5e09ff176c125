"""What the register stage does: both generators into the registry, the decision on each, and the report of it."""

import json
from typing import Any

from pipeline import params, paths
from pipeline.atomic import new_folder, write_json
from pipeline.errors import UserError
from pipeline.sources import provenance
from pipeline.tracking import contest, facts, gate, model_card, promotion, reference, registry, runs
from pipeline.tracking.promotion import Decision


def register(rules: params.Register, comparison: params.Evaluate) -> dict[str, Decision]:
    """Register models/ with the scores in reports/evaluate, decide on promotion, write reports/register. The decisions, by direction.

    `comparison` holds the resamples and the seed of the contest against the champion.

    The report holds digests and decisions, no version numbers or run ids: the same models and scores give the same bytes.
    """
    model, metrics = _read(paths.MODEL_JSON, "train"), _read(paths.METRICS_JSON, "evaluate")
    drift = _read(paths.DRIFT_JSON, "validate") if paths.DRIFT_JSON.is_file() else {}
    source, data_digest = provenance.read(), facts.data_digest()
    run = runs.attach()
    scores = {direction: gate.scores_of(metrics, direction) for direction in paths.DIRECTIONS}
    decisions, entries = {}, {}
    for direction in paths.DIRECTIONS:
        version = registry.register(run, direction, scores[direction], model_card.write(model, source, scores, {}), data_digest)
        basis = promotion.basis(metrics, drift, rules.model_dump())
        decision = promotion.remembered(version, basis)
        if decision is None:
            checks = [*gate.floors(metrics, direction, rules.floors), *gate.data_check(drift)]
            champion = registry.alias(run.uri, version.name, registry.CHAMPION)
            rival = champion if champion is not None and str(champion.version) != str(version.version) else None
            if rival is not None:
                checks.append(contest.judge(run.uri, direction, rival, comparison))
            compared_with = rival.tags[registry.WEIGHTS] if rival is not None else ""
            decision = promotion.decide(run.uri, version, checks, rules.promotion, basis, compared_with)
        decisions[direction] = decision
        entries[registry.NAMES[direction]] = {
            "weights": registry.weights_digest(direction),
            "data": data_digest,
            "champion": decision.promoted,
            "reasons": decision.reasons,
            "compared_with": decision.compared_with,
            "against_champion": decision.against,
        }
    card = model_card.write(model, source, scores, decisions, metrics)
    with new_folder(paths.REGISTER_REPORT) as folder:
        write_json(folder / paths.VERSIONS_JSON.name, entries)
        (folder / paths.MODEL_CARD.name).write_text(card, encoding="utf-8")
    run.log_folder(paths.REGISTER_REPORT, "register")
    if paths.STATISTICS_JSON.is_file():
        run.log_file(paths.STATISTICS_JSON, reference.FOLDER)
    run.set_tags({"dvc.lock": facts.lock_digest()})
    run.finish()
    return decisions


def _read(path: Any, stage: str) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path}: not found; run dvc repro {stage} first, or dvc pull") from None
    except ValueError:
        raise UserError(f"{path}: damaged; run dvc repro {stage}") from None
