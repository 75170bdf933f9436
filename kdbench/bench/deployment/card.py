"""A model card in Hugging Face's format: a header in YAML for the hub, then what is known of the student."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from yacs.config import CfgNode

from kdbench.bench.deployment.export import Exported
from kdbench.config.teachers import AND, each_teacher
from kdbench.engine.result import RunResult
from kdbench.engine.run_folder import RunFolder
from kdbench.escape import markdown

_LICENCE = "Licence: not named. Those of the data and of the weights that student and teacher started from may apply to this file."


def card(run: str | Path, cfg: CfgNode, found: Exported) -> str:
    """The card of an exported student, as Markdown.

    Args:
        run: its folder.
        cfg: its configuration.
        found: what was exported.

    Raises:
        KdbenchError: the run's result cannot be read.
    """
    result = RunResult.read(RunFolder(Path(run)))
    top1 = found.parity.top1 if found.int8_top1 is None else found.int8_top1
    header = yaml.safe_dump(_header(result, found, top1), sort_keys=False, allow_unicode=True)
    facts = {
        "student": f"{result.student}, {result.student_params:,} parameters",
        "method": result.method,
        "teacher": _teacher(result, cfg) or "none",
        "starting weights": Path(cfg.STUDENT.WEIGHTS).name or "fresh",  # no folders of the user's in a public text
        "data": f"{result.dataset}, {len(result.classes)} classes",
        "training": f"{result.epochs} epochs, seed {result.seed}, {result.environment.get('gpu') or 'CPU'}",
        "input": f"(batch, 3, {found.side}, {found.side}), RGB in [0, 1]"
        if found.kind != "timm"
        else "timm's transform",
        "file": f"{found.file.name}, {found.size / 1e6:.2f} MB{', 8 bits' if found.int8_top1 is not None else ''}",
        "run": result.run_id,
    }
    rows = [f"| {name} | {markdown(value)} |" for name, value in facts.items()]
    times = [f"| {one.batch} | {one.milliseconds:.3f} | {one.images_per_second:.1f} |" for one in found.latencies]
    table = ["| teacher | student | method | top-1 | top-5 of the run | teacher's top-1 |", "|---|---|---|---|---|---|"]
    cells = (result.teacher or "-", result.student, result.method, f"{top1:.2f}", f"{result.student_top5:.2f}")
    own = "-" if result.teacher_top1 is None else f"{result.teacher_top1:.2f}"
    table.append(f"| {' | '.join(map(markdown, (*cells, own)))} |")
    measured = f"Milliseconds of a batch ({found.runtime}, {found.threads} thread{'s' * (found.threads > 1)}):"
    return "\n".join(
        [
            *("---", header.rstrip("\n"), "---", f"# {markdown(result.student)}, {markdown(result.method)}", ""),
            *(
                "| | |",
                "|---|---|",
                *rows,
                "",
                f"Top-1 accuracy in percent on {found.parity.images} test images, measured",
            ),
            *("on this file; one seed.", "", *table, "", measured, ""),
            *("| batch | ms | images/s |", "|---|---|---|", *times, "", _LICENCE, ""),
        ]
    )


def _header(result: RunResult, found: Exported, top1: float) -> dict[str, Any]:
    metrics = [{"type": "accuracy", "name": "top-1", "value": round(top1 / 100, 6)}]
    task = {"type": "image-classification", "name": "Image Classification"}
    dataset = {"type": result.dataset, "name": result.dataset, "split": "test"}
    return {
        "library_name": {"onnx": "onnx", "timm": "timm"}.get(found.kind, "pytorch"),
        "pipeline_tag": "image-classification",
        "tags": ["image-classification", "knowledge-distillation", "kdbench"],
        "model-index": [
            {"name": result.run_id, "results": [{"task": task, "dataset": dataset, "metrics": metrics}]},
        ],
    }


def _teacher(result: RunResult, cfg: CfgNode) -> str:
    if not result.teacher:
        return ""
    return AND.join(
        f"{one.DISTILLER.TEACHER}, {'published weights' if one.TEACHER.WEIGHTS == 'pretrained' else f'weights {sha256[:12]}'}"
        for one, sha256 in zip(each_teacher(cfg), result.teacher_sha256.split(AND))
    )
