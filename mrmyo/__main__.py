"""The command line: the same words as the library. ``mrmyo --help`` lists them. Research use only."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
from pathlib import Path

from mrmyo.analysis_command import add_options, run_analysis


def main(argv=None) -> int:
    """Run one command; errors are printed in a line, without a traceback, and give exit status 1."""
    arguments = _parser().parse_args(argv)
    try:
        status = arguments.command(arguments)
    except (ValueError, OSError, RuntimeError) as error:
        print(f"mrmyo: {_words(error, arguments)}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("mrmyo: interrupted; run the same command again to go on.", file=sys.stderr)
        return 130
    return status or 0


def _words(error, arguments):
    """What went wrong; folders of DICOM are not named, for they may be called after patients."""
    given = [getattr(arguments, name, None) for name in ("folder", "image", "folders", "images")]
    paths = [path for path in [*given[:2], *(given[2] or ()), *(given[3] or ())] if path is not None]
    text = str(error)
    for folder in [path for path in paths if not path.name.endswith((".nii", ".nii.gz"))]:
        if getattr(error, "filename", None) and Path(os.fsdecode(error.filename)).is_relative_to(folder):
            return f"{error.strerror or type(error).__name__}: a file of the study."
        for spelling in (str(folder.resolve()), str(folder)):
            text = text.replace(spelling, "the folder") if os.sep in spelling.strip(os.sep) else text
    return text


def _parser():
    parser = argparse.ArgumentParser(prog="mrmyo", description="Thigh MRI to muscle T2. Research use only.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def add(name, run, text):
        command = commands.add_parser(name, help=text, description=text)
        command.set_defaults(command=run)
        return command

    check = add("check", _check, "tell what a folder of DICOM holds, and whether it can be measured")
    check.add_argument("folder", type=Path)
    check.add_argument("--settings", type=Path, help="a settings file in TOML")
    check.add_argument("--picture", type=Path, help="a PNG of where the series lie and their middle slices")

    export = add("export", _export, "write the masks, maps and measurements of a measured study as DICOM")
    export.add_argument("result", type=Path, help="the folder that `mrmyo run` filled")
    export.add_argument("study", type=Path, help="the DICOM it was filled from")
    export.add_argument("out", type=Path, help="receives the files, which name the patient as the study does")

    run = add("run", _run, "measure one study: a folder of DICOM in; masks, maps, rows and a page out")
    run.add_argument("folder", type=Path)
    run.add_argument("out", type=Path)
    run.add_argument("--labels", help="a reviewed mask (the journal of a review, or NIfTI on the structural image's "
                     "grid), which stays in OUT; "
                     "or 'automatic' to set it aside")
    run.add_argument("--subject", help="the key that the rows carry (default: the name of OUT)")

    cohort = add("cohort", _cohort, "measure many studies, one folder each, into one table")
    cohort.add_argument("folders", type=Path, nargs="*", help="study folders; their keys are salted hashes")
    cohort.add_argument("--subjects", type=Path, help="in place of FOLDERS: a table (CSV) with the columns subject, "
                        "folder and, for several visits, session")
    cohort.add_argument("--out", type=Path, required=True)
    cohort.add_argument("--bids", action="store_true", help="write a BIDS dataset to OUT/bids as well")
    cohort.add_argument("--jobs", type=int, default=-1, help="studies at a time (default: one per processor)")
    cohort.add_argument("--scheduler", help="address of a Dask scheduler, whose workers then do the work")
    for command in (run, cohort):
        command.add_argument("--model", type=Path, help="a segmentation model, or the description (.toml, .json) of "
                             "another lab's (default: the shipped one)")
        command.add_argument("--settings", type=Path, help="a settings file in TOML")

    segment = add("segment", _segment, "label the muscles of images, and tell which slices to look at")
    segment.add_argument("images", type=Path, nargs="+", help="NIfTI files, or folders of DICOM")
    segment.add_argument("out", type=Path, help="the label map to write (.nii.gz); for several images, their folder")
    segment.add_argument("--model", type=Path, help="a segmentation model, or the description of another lab's")
    segment.add_argument("--passes", type=int, default=1, help="1 to 5: average as many turned and scaled passes")
    segment.add_argument("--beside", type=Path, nargs="+", default=[], help="its further contrasts, on the same grid")
    segment.add_argument("--probability", action="store_true", help="write probability and entropy as well")

    t2 = add("t2", _t2, "fit T2 to a multi-echo series")
    t2.add_argument("image", type=Path, help="a 4-D NIfTI file, or a folder of DICOM")
    t2.add_argument("out", type=Path, help="the map to write (.nii.gz, in seconds as BIDS has it)")
    t2.add_argument("--echo-times", help="in ms, separated by commas, where the file does not tell them")

    evaluate = add("evaluate", _evaluate, "compare label maps with a reference: overlap, distances, volume, T2")
    evaluate.add_argument("labels", type=Path, help="a label map (NIfTI), or a folder of them")
    evaluate.add_argument("reference", type=Path, help="the reference on its grid, or a folder of equally named ones")
    evaluate.add_argument("--out", type=Path, required=True, help="a folder for tables, figures and evaluation.html")
    evaluate.add_argument("--t2", type=Path, help="T2 map(s) on the same grid, with a sidecar that says the unit")
    evaluate.add_argument("--image", type=Path, help="image(s) on the same grid, to draw the masks on")
    evaluate.add_argument("--only", help="abbreviations of muscles, separated by commas, such as VL,VM")
    evaluate.add_argument("--reference-values", help="other people's label values: a TOML or CSV file of theirs and "
                          "ours, or thigh11 for the public maps of eleven muscles")
    evaluate.add_argument("--levels", type=int, default=3, help="bands from distal to proximal (default: 3)")
    evaluate.add_argument("--count-unnamed", action="store_true", help="muscle that the reference does not name counts "
                          "as whole muscle")
    evaluate.add_argument("--synthetic", action="store_true", help="say on every figure that the data are synthetic "
                          "(said anyway where a sidecar tells)")

    add_options(add("analyse", run_analysis, "Table 1, ROC, correlations and comparisons of a table of subjects"))

    simulate = add("simulate", _simulate, "write synthetic studies (OUT/studies) and their truth (OUT/truth)")
    simulate.add_argument("out", type=Path)
    simulate.add_argument("--subjects", type=int, default=74)

    reproduce = add("reproduce", _reproduce, "simulate, measure, run the notebooks, write the report; resumable")
    reproduce.add_argument("--out", type=Path, default=Path("results"))
    reproduce.add_argument("--subjects", type=int, default=74)
    reproduce.add_argument("--jobs", type=int, default=-1)
    reproduce.add_argument("--keep-dicom", action="store_true")
    reproduce.add_argument("--no-notebooks", action="store_true")

    train = add("train", _train, "train the segmentation model on synthetic images, from scratch; resumable")
    train.add_argument("out", type=Path, help="folder for the model, its card, its curve and the checkpoint")
    for name, kind, text in (
        ("label-maps", Path, "folder of public label maps; without: the parametric anatomy alone"),
        ("leave-out", str, "persons of the maps on whom not to train, such as THIGH_061"),
        ("start", Path, "a model to begin with, in place of random weights"),
        ("steps", int, "length of the training"), ("batch-size", int, "images a step"),
        ("seed", int, "images and initial weights follow from it"),
        ("peak-rate", float, "the highest learning rate"), ("channels", int, "width of every resolution"),
        ("hold-out", int, "leave out this fifth of the persons, 0 to 4, and score the model on them"),
        ("device", str, "cpu or cuda (default: a GPU where there is one)"),
        ("minutes", float, "stop after this time; the same command goes on"),
    ):
        train.add_argument(f"--{name}", type=kind, nargs="+" if name in ("channels", "leave-out") else None, help=text,
                           default=argparse.SUPPRESS)
    train.add_argument("--blended", action="store_true", help="show thighs between those of two people")
    return parser


def _check(arguments):
    from mrmyo.overview import as_ascii, look

    encoding = sys.stdout.encoding or "ascii"
    columns = shutil.get_terminal_size((80, 24)).columns if sys.stdout.isatty() else 80
    text, series, verdict = look(arguments.folder, _settings(arguments), width=min(max(columns, 80), 120))
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        text = as_ascii(text)
    print(text)
    if arguments.picture and series is not None:
        from mrmyo.overview_picture import write_overview

        write_overview(series, verdict, arguments.picture)
        print(f"\nPicture: {arguments.picture.name}")
    return 0 if verdict.ready else 1


def _run(arguments):
    from mrmyo import process_study

    rows = process_study(
        arguments.folder,
        arguments.out,
        arguments.labels,
        subject=arguments.subject,
        model=arguments.model,
        settings=_settings(arguments),
    )
    _tell(rows)
    for flag in json.loads((arguments.out / "study.json").read_text(encoding="utf-8"))["flags"]:
        print(f"Flag: {flag}", file=sys.stderr)
    print(f"\nEverything is in {arguments.out}; look at {arguments.out / 'quality.html'}. Research use only.")


def _export(arguments):
    from mrmyo import export_study

    written = export_study(arguments.result, arguments.study, arguments.out)
    print(f"{', '.join(path.name for path in written)} are in {arguments.out}; they name the patient as the study "
          "does. Research use only.")


def _cohort(arguments):
    import pandas as pd

    from mrmyo import process_cohort
    from mrmyo.study_subjects import KEYS, read_subjects

    if bool(arguments.folders) == bool(arguments.subjects):
        raise ValueError("Expected either study folders or --subjects TABLE.csv, and not both.")
    folders = read_subjects(arguments.subjects) if arguments.subjects else arguments.folders
    rows = process_cohort(folders, arguments.out, n_jobs=arguments.jobs, scheduler=arguments.scheduler,
                          model=arguments.model, settings=_settings(arguments), bids=arguments.bids)
    _tell(rows[rows.side == "both"])
    summary = pd.read_csv(arguments.out / "summary.csv", dtype=str, keep_default_na=False)
    for row in summary[summary.reason != ""].itertuples():
        print(f"{row.subject} (session {row.session}) {row.outcome}: {row.reason}", file=sys.stderr)
    counts = ", ".join(f"{count} {outcome}" for outcome, count in summary.outcome.value_counts().items())
    print(f"\n{len(summary)} studies: {counts}. The table is {arguments.out / 'rows.csv'}, what was done and why not, "
          f"{arguments.out / 'summary.csv'}; which folder has which key, {arguments.out / KEYS} (keep it private).")
    if arguments.folders and summary[summary.outcome != "skipped"].subject.duplicated().any():
        print("Studies of one patient were taken for sessions of one subject. If that is wrong, state --subjects.")


def _settings(arguments):
    from mrmyo.settings import read_settings

    return read_settings(arguments.settings) if arguments.settings else None


def _tell(rows):
    columns = ["subject", "session", "side", "muscle", "t2_ms", "t2_sd_ms", "n_voxels", "n_failed"]
    print(rows[columns].to_string(index=False, float_format="%.1f"))


def _segment(arguments):
    from mrmyo import label_table, read_nifti
    from mrmyo.study_masks import output_names, write_mask

    names, failed = output_names(arguments.images, arguments.out, arguments.beside), 0
    beside = [read_nifti(path) for path in arguments.beside]
    for image, name in zip(arguments.images, names, strict=True):
        try:
            labels, lines = write_mask(_image(image, ("in_phase", "water", "t2w", "t1w")), name, model=arguments.model,
                                       passes=arguments.passes, probability=arguments.probability, beside=beside)
        except Exception as error:  # one bad image stops no other
            if len(names) == 1:
                raise
            print(f"{name.name} was not made: {_words(error, arguments)}", file=sys.stderr)
            failed += 1
            continue
        if len(names) == 1:
            table = label_table()
            table["n_voxels"] = [int((labels.array == value).sum()) for value in table.value]
            print(table[table.n_voxels > 0][["value", "abbreviation", "side", "n_voxels"]].to_string(index=False))
        print(f"{name}: " + ("look at every mask; nothing was noticed." if not lines else "look first at"))
        print("".join(f"  {line}\n" for line in lines), end="")
    return 1 if failed else 0


def _t2(arguments):
    import numpy as np

    from mrmyo import fit_t2
    from mrmyo.nifti import write_t2map
    from mrmyo.t2 import STATUS

    _check_output(arguments.out, arguments.image)
    times = None
    if arguments.echo_times:
        try:
            times = [float(part) for part in arguments.echo_times.split(",")]
        except ValueError:
            raise ValueError(
                f"Found --echo-times {arguments.echo_times}; expected numbers in ms, such as 10,20,30."
            ) from None
    volume = _image(arguments.image, ("multi_echo",), times)
    maps = fit_t2(volume, times if volume.echo_times_ms is None else None)
    write_t2map(maps.volume("t2_ms"), arguments.out)
    low, middle, high = np.nanpercentile(maps.t2_ms, [5, 50, 95])
    counts = ", ".join(
        f"{int((maps.status == i).sum())} {name}" for i, name in enumerate(STATUS) if (maps.status == i).any()
    )
    print(f"T2 of the fitted voxels: median {middle:.1f} ms, 5–95 % {low:.1f}–{high:.1f} ms. Voxels: {counts}.")


def _image(path, roles, echo_times_ms=None):
    """A NIfTI file, or the first of the roles that a DICOM folder has."""
    from mrmyo import read_dicom, read_nifti

    if not path.is_dir():
        return read_nifti(path, echo_times_ms)
    series = read_dicom(path)
    found = list(series.loc[series.readable, "role"])
    role = next((role for role in roles if role in found), None)
    if role is None:
        problems = "; ".join(f"series {row.series}: {row.problem}" for row in series[~series.readable].itertuples())
        raise ValueError(f"Found series with the roles {found}, expected one of {list(roles)}. {problems}".strip())
    return series.volume(role)


def _check_output(out, image):
    """Refuses, before anything slow, a name that is no NIfTI and the input itself."""
    if not out.name.endswith((".nii", ".nii.gz")):
        raise ValueError(f"Cannot write {out.name}: expected a name that ends in .nii or .nii.gz.")
    if out.resolve() == image.resolve():
        raise ValueError(f"The output {out.name} is the input itself, which would be lost. Give another name.")


def _evaluate(arguments):
    from mrmyo.evaluation_files import evaluate_files

    only = [part.strip().upper() for part in arguments.only.split(",")] if arguments.only else None
    _, summary = evaluate_files(
        arguments.labels, arguments.reference, arguments.out, t2=arguments.t2, image=arguments.image, only=only,
        reference_values=arguments.reference_values, n_levels=arguments.levels, count_unnamed=arguments.count_unnamed,
        synthetic=arguments.synthetic or None)
    table = summary[(summary.level == "all") & summary.measure.isin(
        ["dice", "hd95_in_plane_mm", "volume_error_percent", "delta_t2_ms"])]
    wide = table.pivot(index=["muscle", "side"], columns="measure", values="mean")[list(table.measure.unique())]
    print(wide.loc[list(dict.fromkeys(zip(table.muscle, table.side, strict=True)))].reset_index().to_string(
        index=False, float_format="%.3f"))
    print(f"\nMeans of {table.n.max()} case(s). Everything is in {arguments.out}; look at "
          f"{arguments.out / 'evaluation.html'}. Research use only.")


def _simulate(arguments):
    from mrmyo import load_cohort, simulate_study
    from mrmyo.cohort import pick_subjects
    from mrmyo.progress import track
    from mrmyo.settings import workspace

    ws = workspace(arguments.out)
    for row in track(pick_subjects(load_cohort(), arguments.subjects).to_dict("records"), label="synthetic studies"):
        simulate_study(row, ws.studies / row["subject"], ws.truth / row["subject"])
    print(f"DICOM: {ws.studies}; truth, apart: {ws.truth}. All of it is synthetic.")


def _reproduce(arguments):
    from mrmyo.reproduction import reproduce

    report = reproduce(
        arguments.out,
        subjects=arguments.subjects,
        keep_dicom=arguments.keep_dicom,
        n_jobs=arguments.jobs,
        notebooks=not arguments.no_notebooks,
    )
    print(f"The report is {report}. Research use only; all data in it are synthetic.")


def _train(arguments):
    import matplotlib
    import pandas as pd

    from mrmyo.figures import training_curve
    from mrmyo.training import train

    given = {name: value for name, value in vars(arguments).items() if name not in ("command", "out")}
    print(f"The model is {train(arguments.out, **given)}.")
    matplotlib.use("agg")
    training_curve(pd.read_csv(arguments.out / "curve.csv")).figure.savefig(arguments.out / "curve.png", dpi=150)


if __name__ == "__main__":
    os.environ.setdefault("MPLBACKEND", "agg")
    sys.exit(main())
