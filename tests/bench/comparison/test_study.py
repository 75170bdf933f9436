"""What many seeds say: tests of cells, families, the luck of a few seeds, rankings, and the page that is filled with them."""

from __future__ import annotations

import itertools
import re

import numpy as np
import pytest
from inline_pool import InlinePool
from scipy import stats
from small_grids import grid_file

from kdbench.bench.comparison.seeds import MIN_SEEDS, paired_t, seed_tests
from kdbench.bench.comparison.statistics import holm
from kdbench.bench.comparison.study.families import family_gaps, pair_families
from kdbench.bench.comparison.study.luck import crowned
from kdbench.bench.comparison.study.page import fill, open_study, read_costs, sections, whole
from kdbench.bench.comparison.study.tuning import rankings_agree, tuning_changes
from kdbench.bench.comparison.table import build_table
from kdbench.bench.pictures.every import plot_study
from kdbench.bench.pictures.steps import plot_steps
from kdbench.bench.results.labels import load_grid_results
from kdbench.bench.running.run_grid import run_grid
from kdbench.cli.main import main
from kdbench.errors import KdbenchError

TEACHERS = {"CNN": "small_cnn28", "ViT": "small_vit28", "Mixer": "small_mixer28"}
#: what a method gains over the student alone, under each teacher
GAINS = {"Vanilla": (0, 0, 0), "KD": (2, 2, 2), "AT": (3, -4, -6), "SP": (0.1, 0, 0.1), "KD (tuned)": (2.5, 2.5, 2.5)}
GAINS |= {"Vanilla (tuned)": (1, 1, 1), "AT (tuned)": (3, 1, 1), "SP (tuned)": (0, 1.5, 3)}


def rows(folder, seeds=10, gains=None, student="small_cnn28", spread=0.3):
    """A file of rows with known gains; a student alone is the same run in every pair."""
    rng = np.random.default_rng(3)
    alone = 70 + rng.normal(0, 1, seeds + 1)
    noise = {method: rng.normal(0, spread, (3, seeds + 1)) for method in gains or GAINS}
    lines = ["pair,label,seed,run_id,method,teacher,student,dataset,teacher_sha256,teacher_top1,top1_last"]
    for column, (name, network) in enumerate(TEACHERS.items()):
        for label, found in (gains or GAINS).items():
            kind, taught = label.split(" ")[0], not label.startswith("Vanilla")
            for seed in range(1, seeds + 1):
                top1 = alone[seed] + found[column] + (noise[label][column, seed] if taught else 0)
                teacher = (network, name, "90") if taught else ("", "", "")
                facts = [f"{name} -> CNN", label, seed, f"{label}-{name * taught}-{seed}", kind, teacher[0], student]
                lines.append(",".join(map(str, [*facts, "fashion_mnist", *teacher[1:], f"{top1:.2f}"])))
    file = folder / "rows.csv"
    file.write_text("\n".join(lines) + "\n")
    return file


def told(study, section):
    return sections(study)[section]()


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    return rows(tmp_path_factory.mktemp("study"))


def test_a_cell_is_tested_against_the_student_alone_and_holm_counts_every_cell(file):
    table = build_table(file)
    tests = {(test.pair, test.method): test for test in seed_tests(table)}
    assert len(tests) == 3 * (len(GAINS) - 2)
    for (pair, method), test in tests.items():
        base = "Vanilla (tuned)" if "tuned" in method else "Vanilla"
        ours = [table.cells[pair, method].values[seed] for seed in range(1, 11)]
        alone = [table.cells[pair, base].values[seed] for seed in range(1, 11)]
        assert test.p == pytest.approx(stats.ttest_rel(ours, alone).pvalue, rel=1e-9)
        interval = stats.ttest_rel(ours, alone).confidence_interval(0.95)
        assert (test.difference.low, test.difference.high) == pytest.approx((interval.low, interval.high), rel=1e-9)
    assert [test.p_holm for test in tests.values()] == holm([test.p for test in tests.values()])
    signs = {place: test.sign for place, test in tests.items()}
    assert [signs[f"{t} -> CNN", "AT"] for t in TEACHERS] == [1, -1, -1]
    assert [signs[f"{t} -> CNN", "SP"] for t in TEACHERS] == [0, 0, 0]


def test_few_seeds_have_an_interval_but_no_test(tmp_path):
    table = build_table(rows(tmp_path, seeds=MIN_SEEDS - 1))
    tests = seed_tests(table)
    assert {(test.p, test.p_holm, test.sign) for test in tests} == {(None, None, 0)}
    assert all(test.difference.low is not None for test in tests)
    assert "\u2013" in told(open_study(tmp_path / "rows.csv"), "cells")


def test_differences_without_spread():
    assert paired_t([0.0] * 6) == 1.0
    assert paired_t([0.5] * 6) == 0.0
    assert paired_t([0.5] * 5) is None


def test_the_gap_between_families_is_paired_by_seed(file):
    table = build_table(file)
    families = pair_families(load_grid_results(file)[0])
    assert [family.same for family in families.values()] == [True, False, False]
    gaps = {gap.method: gap for gap in family_gaps(table, families)}
    assert set(gaps) == set(GAINS) - {"Vanilla", "Vanilla (tuned)"}
    for method, gap in gaps.items():
        one, two, three = (np.array(list(table.cells[f"{t} -> CNN", method].values.values())) for t in TEACHERS)
        paired = one - (two + three) / 2  # the student alone is the same in all pairs
        assert gap.difference.mean == pytest.approx(paired.mean(), abs=1e-9)
        assert gap.p == pytest.approx(stats.ttest_1samp(paired, 0).pvalue, rel=1e-6)
    assert gaps["AT"].sign == 1
    assert gaps["SP (tuned)"].sign == -1
    assert gaps["KD"].sign == 0


def test_networks_that_the_zoo_does_not_know_have_no_family(tmp_path):
    file = rows(tmp_path, student="a_network_of_mine")
    assert pair_families(load_grid_results(file)[0]) == {}
    assert "There are no two teachers" in told(open_study(file), "families")


def test_timm_names_have_the_families_of_what_they_stand_for(tmp_path):
    frame = load_grid_results(rows(tmp_path, student="timm:swin_tiny_patch4_window7_224"))[0]
    assert {family.student_family for family in pair_families(frame).values()} == {"vit"}


def test_every_choice_of_three_seeds_is_counted_once(file):
    table = build_table(file)
    methods = ["Vanilla", "KD", "AT", "SP"]
    for one in crowned(table, methods):
        winners = []
        for seeds in itertools.combinations(range(1, 11), 3):
            means = {m: sum(table.cells[one.pair, m].values[s] for s in seeds) for m in methods}
            winners.append(max(means, key=means.get))
        assert one.choices == 120
        assert one.other == pytest.approx(sum(w != one.winner for w in winners) / 120)
        assert {m: round(n, 6) for m, n in one.winners.items()} == {m: winners.count(m) for m in set(winners)}
    assert [one.winner for one in crowned(table, methods)] == ["AT", "KD", "KD"]
    assert crowned(table, methods, few=10) == []  # there is but one way
    assert crowned(table, ["KD"]) == []


def test_equal_means_share_a_crown(tmp_path):
    [one, *_] = crowned(
        build_table(rows(tmp_path, gains={"Vanilla": (0, 0, 0), "SP": (0, 0, 0)}, spread=0)), ["Vanilla", "SP"]
    )
    assert one.winners == pytest.approx({"Vanilla": 60, "SP": 60})
    assert (one.other, one.worst_place) == (pytest.approx(0.5), 1)


def test_too_many_choices_are_refused(tmp_path):
    table = build_table(rows(tmp_path, seeds=40))
    with pytest.raises(KdbenchError, match="choices, at most 20,000"):
        crowned(table, ["KD", "AT"], few=10)
    with pytest.raises(KdbenchError, match="at least 1 seed, not 0"):
        crowned(table, ["KD", "AT"], few=0)


def test_rankings_as_published_and_as_tuned(file):
    table = build_table(file)
    found = rankings_agree(table)
    for pair, (tau, count) in found.items():
        both = ["Vanilla", "KD", "AT", "SP"]
        before, after = ([table.cells[pair, f"{m}{tail}"].mean for m in both] for tail in ("", " (tuned)"))
        assert (tau, count) == (pytest.approx(stats.kendalltau(before, after).statistic), 4)


def test_what_tuning_changed_is_paired_by_seed_and_corrected_over_all_changes(file):
    table = build_table(file)
    found = {(one.pair, one.method): one for one in tuning_changes(table)}
    assert set(found) == {(f"{t} -> CNN", m) for t in TEACHERS for m in ("Vanilla", "KD", "AT", "SP")}
    for (pair, method), one in found.items():
        before, after = (list(table.cells[pair, f"{method}{tail}"].values.values()) for tail in ("", " (tuned)"))
        if method == "Vanilla":
            assert (one.difference.mean, one.p, one.unchanged) == (pytest.approx(1), pytest.approx(0, abs=1e-9), False)
        else:
            assert one.p == pytest.approx(stats.ttest_rel(after, before).pvalue, rel=1e-9)
            interval = stats.ttest_rel(after, before).confidence_interval(0.95)
            assert (one.difference.low, one.difference.high) == pytest.approx((interval.low, interval.high), rel=1e-9)
    assert [one.p_holm for one in found.values()] == holm([one.p for one in found.values()])
    assert [found[f"{t} -> CNN", "AT"].sign for t in TEACHERS] == [0, 1, 1]


def test_the_sections_of_tuning(file, tmp_path):
    study = open_study(file)
    [line] = [line for line in told(study, "tuning").splitlines() if line.startswith("| CNN -> CNN")]
    methods, better, same, worse, unchanged = (int(cell) for cell in line.split("|")[2:7])
    signs = [one.sign for one in tuning_changes(study.table) if one.pair == "CNN -> CNN"]
    assert (methods, better, same, worse) == (4, signs.count(1), signs.count(0), signs.count(-1))
    assert (better, same, unchanged) == (2, 2, 0)  # the student alone and KD
    assert re.search(r"\| AT +\| [+-]0\.\d\d \[[^|]*\] +\| \*\*\+[45]\.", told(study, "changes"))
    as_before = changed(
        file, tmp_path, lambda line: None if ",Vanilla (tuned)," in line else line.replace(",KD (tuned),", ",x,")
    )
    lines = as_before.read_text().splitlines()
    copies = [line.replace(",KD,", ",KD (tuned),", 1) for line in lines if ",KD,KD-" in line or ",KD,1" in line]
    as_before.write_text("\n".join([*lines, *copies]) + "\n")
    kept = {(one.pair, one.method) for one in tuning_changes(build_table(as_before)) if one.unchanged}
    assert kept == {(f"{t} -> CNN", "KD") for t in TEACHERS}
    untuned = changed(file, tmp_path, lambda line: None if " (tuned)," in line else line)
    assert {told(open_study(untuned), name) for name in ("tuning", "changes")} == {"Nothing was tuned yet."}


def test_chosen_values_stand_beside_tuned_cells(file, tmp_path):
    head, *lines = file.read_text().splitlines()
    chosen = [
        f"{line},8,801,qmc,validation part,SOLVER.LR 0.5" if "KD (tuned)" in line else f"{line},,,,," for line in lines
    ]
    (tmp_path / "v.csv").write_text("\n".join([f"{head},trials,trial_seeds,sampler,chosen_on,values", *chosen]) + "\n")
    cells = told(open_study(tmp_path / "v.csv"), "cells")
    assert [line.split("|")[1].strip() for line in cells.splitlines() if "SOLVER.LR 0.5" in line] == ["KD (tuned)"] * 3
    assert cells.count("| chosen values") == 3
    assert "chosen values" not in told(open_study(file), "cells")


def test_pairs_that_were_not_tuned_are_no_columns_of_tuned_gains(file, tmp_path):
    part = changed(file, tmp_path, lambda line: None if " (tuned)," in line and not line.startswith("CNN") else line)
    heads = {name: told(open_study(part), name).splitlines()[0] for name in ("gains", "gains-tuned", "changes")}
    assert {name: head.count("->") for name, head in heads.items()} == {"gains": 3, "gains-tuned": 1, "changes": 1}


def test_the_command_prints_all_of_it(file, capsys, tmp_path):
    assert main(["study", str(file), "--plots", str(tmp_path / "p"), "--picture", "svg"]) == 0
    out = capsys.readouterr().out
    for words in ("**-4.", "| Mixer -> CNN |", "same - other", "another winner with 3 seeds", "Kendall's tau"):
        assert words in out
    names = {"gains-small_cnn28.svg", "gains-small_cnn28-tuned.svg", "ranks.svg", "ranks-tuned.svg"}
    assert {file.name for file in (tmp_path / "p").iterdir()} == names
    drawn = {tail: (tmp_path / "p" / f"gains-small_cnn28{tail}.svg").read_text() for tail in ("", "-tuned")}
    assert ["difference from Vanilla, points" in text for text in drawn.values()] == [True, False]
    assert "difference from Vanilla (tuned), points" in drawn["-tuned"]


def test_a_page_is_filled_where_it_asks_for_it_and_twice_the_same(file, tmp_path, capsys):
    page = tmp_path / "page.md"
    page.write_text("# Mine\n\nWords.\n\n<!-- study: luck -->\n<!-- /study -->\n\nMore | words.\n")
    assert main(["study", str(file), "--page", str(page)]) == 0
    first = page.read_text()
    assert first.startswith("# Mine\n\nWords.\n\n<!-- study: luck -->\n\n| pair")
    assert first.endswith("\n\n<!-- /study -->\n\nMore | words.\n")
    assert main(["study", str(file), "--page", str(page)]) == 0
    assert page.read_text() == first
    assert "up to date" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("no marks", "the page names no section"),
        (
            "<!-- study: gains -->\nmine\n<!-- study: luck -->\n<!-- /study -->\n",
            "line 3: <!-- study: luck --> before the",
        ),
        ("<!-- study: luck -->\n<!-- /study -->\nmine\n<!-- /study -->\n", "line 4: <!-- /study --> without"),
        ("<!--study: luck-->  \n", "line 1: <!-- study: luck --> without <!-- /study --> behind it"),
        ("```\n<!-- study: luck -->\n<!-- /study -->\n```\n", "the page names no section"),
        ("<!-- study: gians -->\n<!-- /study -->\n", "'gians' (did you mean 'gains'?)"),
    ],
)
def test_a_page_that_names_nothing_or_nonsense_is_left_alone(file, tmp_path, capsys, text, said):
    page = tmp_path / "page.md"
    page.write_text(text)
    assert main(["study", str(file), "--page", str(page)]) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert said in line
    assert page.read_text() == text


def test_several_pages_are_filled_and_none_where_one_is_wrong(file, tmp_path, capsys):
    pages = [tmp_path / name for name in ("a.md", "b.md")]
    for page in pages:
        page.write_text("<!-- study: summary -->\n<!-- /study -->\n")
    words = ["study", str(file), *(word for page in pages for word in ("--page", str(page)))]
    assert main([*words, "--page", str(tmp_path / "none.md")]) == 2
    assert "none.md' cannot be read" in capsys.readouterr().err
    assert {page.read_text() for page in pages} == {"<!-- study: summary -->\n<!-- /study -->\n"}
    assert main(words) == 0
    assert capsys.readouterr().out.count("written: ") == 2
    assert all("| ViT -> CNN" in page.read_text() for page in pages)


def test_steps_are_drawn_where_they_were_timed(file, tmp_path):
    costs = tmp_path / "costs.csv"
    costs.write_text("pair,label,step\nCNN -> CNN,KD,1.5\nCNN -> CNN,Vanilla,1\n")
    made = plot_study(open_study(file, costs=costs), tmp_path, "svg")
    drawn = (tmp_path / "steps.svg").read_text()
    assert tmp_path / "steps.svg" in made
    assert ("CNN -&gt; CNN" in drawn, "ViT -&gt; CNN" in drawn) == (True, False)
    with pytest.raises(KdbenchError, match="no step of these methods was timed"):
        plot_steps(open_study(file), tmp_path / "none.png")
    costs.write_text("pair,label,step\nof another table,KD,1.5\n")
    with pytest.raises(KdbenchError, match="no pair and label of it is one of"):
        open_study(file, costs=costs)


def test_a_picture_of_tuned_gains_has_only_the_pairs_that_were_tuned(file, tmp_path):
    head, *lines = file.read_text().splitlines()
    assert any("(tuned)" in line and line.startswith("ViT -> CNN") for line in lines)
    kept = [line for line in lines if "(tuned)" not in line or line.startswith("CNN -> CNN")]
    (tmp_path / "r.csv").write_text("\n".join([head, *kept]) + "\n")
    plot_study(open_study(tmp_path / "r.csv"), tmp_path, "svg")
    found = {name.stem.endswith("-tuned"): name.read_text() for name in tmp_path.glob("gains-*.svg")}
    pairs = {tuned: ("CNN -&gt; CNN" in drawn, "ViT -&gt; CNN" in drawn) for tuned, drawn in found.items()}
    assert pairs == {False: (True, True), True: (True, False)}


def test_costs_stand_beside_the_cells_and_only_what_is_not_beaten_in_the_table(file, tmp_path):
    costs = tmp_path / "costs.csv"
    costs.write_text("pair,label,step\nCNN -> CNN,KD,1.5\nCNN -> CNN,AT,1.77\nCNN -> CNN,SP,1.7\n")
    study = open_study(file, costs=costs)
    assert re.search(r"KD \(1\.5x, \d+\.\d\d\), AT \(1\.8x, \d+\.\d\d\) +\|", told(study, "cost"))
    assert "SP (" not in told(study, "cost")
    assert "## Accuracy and cost" in whole(study)
    assert "No step was timed." in told(open_study(file), "cost")
    assert fill("<!-- study: cells -->\n<!-- /study -->\n", study).count("| 1.8 ") == 1


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("pair,label,stp\na,b,1\n", "without the column 'step' (did you mean 'stp'?)"),
        ("pair,label,step\na,b,1\na,c,-2\n", "line 3: step expects a number above 0, got '-2'"),
        ("pair,label,step\na,b,nan\n", "line 2: step expects"),
        ("pair,label,step\na,b,1\na,b,2\n", "line 3: pair and label stand twice"),
        ("", "no CSV of costs"),
    ],
)
def test_costs_that_are_none_are_refused(tmp_path, text, said):
    (tmp_path / "costs.csv").write_text(text)
    with pytest.raises(KdbenchError, match=re.escape(said)):
        read_costs(tmp_path / "costs.csv")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--few", "0"], "--few 0: expects"),
        (["--picture", "svg"], "--picture needs --plots"),
        (["--plots", "p", "--picture", "gif"], "pictures are png, pdf, svg, not 'gif'"),
        (["--baseline", "Vanila"], "did you mean 'Vanilla'"),
        (["--page", "nowhere.md"], "--page 'nowhere.md' cannot be read"),
    ],
)
def test_wrong_words_are_one_line(file, capsys, monkeypatch, tmp_path, words, said):
    monkeypatch.chdir(tmp_path)
    assert main(["study", str(file), *words]) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert said in line


def changed(file, folder, change):
    """A copy of the rows with each line put through a function; None leaves it out."""
    head, *lines = file.read_text().splitlines()
    kept = [line for line in map(change, lines) if line is not None]
    (folder / "changed.csv").write_text("\n".join([head, *kept]) + "\n")
    return folder / "changed.csv"


def test_the_student_alone_is_vanilla_wherever_it_stands_and_whatever_the_grids_baseline(file, tmp_path):
    order = iter(sorted(file.read_text().splitlines()[1:]))
    other = changed(file, tmp_path, lambda line: next(order))
    assert build_table(other).baseline != "Vanilla"
    study = open_study(other)
    assert study.table.baseline == "Vanilla"
    before = open_study(file)
    assert {place: test.difference for place, test in study.tests.items()} == {
        place: test.difference for place, test in before.tests.items()
    }
    assert open_study(file, baseline="KD").table.baseline == "KD"


def test_a_folder_with_a_failed_cell(tmp_path, capsys):
    work = tmp_path / "work"
    work.mkdir()
    methods = ["Vanilla", "KD", "OFD"]  # undefined for a Mixer as the teacher
    report = run_grid(
        grid_file(work, METHODS=methods, SEEDS=[1, 2]), prefix=str(tmp_path), pool=InlinePool(), threads=1
    )
    assert report.failed
    assert main(["study", str(tmp_path / "g")]) == 0
    out = capsys.readouterr().out
    assert "| failed" in out
    assert "not tested" in out


def test_a_pair_without_the_student_alone_says_so(file, tmp_path):
    without = changed(file, tmp_path, lambda line: None if line.startswith("ViT -> CNN,Vanilla,") else line)
    study = open_study(without)
    assert "missing" in told(study, "summary")
    assert "no Vanilla" in told(study, "gains")
    assert "KD" in told(study, "families")  # CNN and Mixer are left


def test_fewer_seeds_and_an_untuned_baseline_are_told(file, tmp_path):
    fewer = changed(file, tmp_path, lambda line: None if line.startswith("ViT -> CNN,KD,9,") else line)
    study = open_study(fewer)
    assert "Seeds of each difference: 10; fewer in ViT -> CNN / KD 9." in told(study, "gains")
    assert "was not tuned" not in told(study, "summary")
    assert "measured against Vanilla (tuned), which was tuned for each pair." in told(study, "summary")
    gaps = f"after Holm's correction over all {len(family_gaps(study.table, study.families))} gaps)"
    assert gaps in told(study, "families")
    assert gaps in told(study, "families-tuned")
    untuned = changed(file, tmp_path, lambda line: None if ",Vanilla (tuned)," in line else line)
    assert "Vanilla was not tuned: tuned methods are measured against it as it is." in told(
        open_study(untuned), "summary"
    )


def test_a_label_that_looks_like_a_mark_and_other_line_ends(file, tmp_path):
    odd = changed(file, tmp_path, lambda line: line.replace(",KD,", ",<!-- /study -->,", 1))
    page = tmp_path / "page.md"
    page.write_bytes(b"mine\r\n<!-- study: gains -->\r\n<!-- /study -->\r\nmore\r\n")
    assert main(["study", str(odd), "--page", str(page)]) == 0
    first = page.read_bytes()
    assert first.count(b"\n") == first.count(b"\r\n")
    assert first.endswith(b"\r\n<!-- /study -->\r\nmore\r\n")
    assert main(["study", str(odd), "--page", str(page)]) == 0
    assert page.read_bytes() == first


def test_a_page_that_is_a_link_stays_one(file, tmp_path):
    (tmp_path / "real.md").write_text("<!-- study: luck -->\n<!-- /study -->\n")
    (tmp_path / "link.md").symlink_to(tmp_path / "real.md")
    assert main(["study", str(file), "--page", str(tmp_path / "link.md")]) == 0
    assert (tmp_path / "link.md").is_symlink()
    assert "best mean" in (tmp_path / "real.md").read_text()


def test_a_gap_leaves_out_seeds_that_learned_from_other_weights(file, tmp_path):
    other = changed(
        file,
        tmp_path,
        lambda line: line.replace(",ViT,", ",other weights,") if line.startswith("ViT -> CNN,AT,9,") else line,
    )
    study = open_study(other, baseline="KD")
    gaps = {gap.method: gap for gap in family_gaps(study.table, study.families)}
    assert (gaps["AT"].difference.n, gaps["SP"].difference.n) == (9, 10)


def test_methods_that_deploy_more_than_the_student_are_marked_wherever_they_gain(file, tmp_path):
    lines = file.read_text().splitlines()
    params = {"AT": "2500", "SP": "1005"}  # a hundredth more is no other network
    counted = [f"{line},{params.get(line.split(',')[1], '1000') if 'Mixer' in line else '1000'}" for line in lines[1:]]
    (tmp_path / "r.csv").write_text("\n".join([f"{lines[0]},student_params", *counted]) + "\n")
    study = open_study(tmp_path / "r.csv")
    assert study.larger == {("Mixer -> CNN", "AT"): 2.5}
    said = "† deploys more than the student alone, parameters as a multiple of its: AT 2.5 (Mixer -> CNN)."
    gains = told(study, "gains")
    assert said in gains
    assert next(line.split("|")[1].strip() for line in gains.splitlines() if "†" in line) == "AT †"
    assert gains.count("†") == 2
    assert "†" not in told(study, "gains-tuned")
    assert "†" not in told(study, "summary")  # AT is not the best of that pair
    assert "†" not in told(open_study(file), "gains")
    everywhere = [f"{line},{2500 if ',AT,' in line else 1000}" for line in lines[1:]]
    (tmp_path / "r.csv").write_text("\n".join([f"{lines[0]},student_params", *everywhere]) + "\n")
    summary = told(open_study(tmp_path / "r.csv"), "summary")
    assert "AT † +3" in summary
    assert "its: AT 2.5 (CNN -> CNN); AT (tuned) 2.5 (CNN -> CNN)." in summary  # where each is the best


def test_an_interval_beyond_the_edge_of_the_picture_is_marked(tmp_path, monkeypatch):
    import matplotlib.axes

    drawn = []
    plot = matplotlib.axes.Axes.plot
    monkeypatch.setattr(
        matplotlib.axes.Axes, "plot", lambda self, *args, **kw: drawn.append(args) or plot(self, *args, **kw)
    )
    gains = {"Vanilla": (0, 0, 0), "KD": (3, 3, 3), "AT": (-2.9, 1, 1), "SP": (-9, 1, 1)}
    study = open_study(rows(tmp_path, gains=gains, spread=2.0))
    plot_study(study, tmp_path)
    at = study.tests["CNN -> CNN", "AT"].difference
    edge = -max(test.difference.mean for test in study.tests.values())
    assert at.low < edge < at.mean
    marks = [args for args in drawn if args[2:] == ("<",)]
    assert len(marks) == 2
    assert all(args[0] == pytest.approx(edge) for args in marks)
