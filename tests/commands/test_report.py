"""`mnistcli report`: the contents of the page, escaping, and its layout in a browser."""

from __future__ import annotations

import base64
import io
import math
import re
import shlex
import subprocess
from pathlib import Path

import h5py
import numpy as np
import pytest
from PIL import Image

from conftest import Run, Train, make_digits
from helpers.browser import Browser, open_browser
from helpers.checkpoints import describe_dense, draw_dense, make_run, write_dense, write_model
from helpers.pages import Page
from mnistcli.checkpoints.reader import read_checkpoint
from mnistcli.checkpoints.run_state import hash_weights
from mnistcli.checkpoints.writer import replace_checkpoint
from mnistcli.config.schema import Config
from mnistcli.datasets.base import Identity
from mnistcli.output.html_report import Markup, choose_ticks, draw_panel, escape, tag
from mnistcli.output.plots.figures import Line, Panel

GOOD = ("--epochs", 2, "--validation", 0.2)
EVIL = "</title><script>document.title='owned'</script><img src=http://x.invalid/ onerror=a()>"


def read_page(path: str | Path) -> Page:
    return Page(Path(path).read_text(encoding="utf-8"))


def test_a_report_shows_what_evaluate_finds_and_the_pictures_are_the_data(
    run: Run, train_once: Train
) -> None:
    model = train_once(*GOOD)
    (truth,) = run("evaluate", model, "--json").json["results"]
    ended = run("report", model)
    assert (ended.code, ended.out) == (0, "model-report.html\n")
    page = read_page("model-report.html")
    page.check_harmless()
    warning = page.texts["p"][0].removeprefix("Warning: ")
    assert ended.err == f"mnistcli: warning: {warning}\n"
    text = page.texts["body"][0]
    for number in (truth["accuracy"], truth["loss"], *(row["f1"] for row in truth["per_class"])):
        assert f"{number:.4f}" in text
    (confusion,) = [t for t in page.texts["table"] if t.startswith("true \\ predicted")]
    counts = "".join(
        f"{label}{''.join(str(count or '·') for count in row)}"
        for label, row in enumerate(truth["confusion"])
    )
    assert confusion == f"true \\ predicted0123456789{counts}"
    images = make_digits(200, seed=2).images
    rows = [int(re.search(r"row (\d+)$", tile)[1]) for tile in page.texts["li"] if "row" in tile]
    sources = [attributes["src"] for name, attributes in page.elements if name == "img"]
    assert len(sources) == len(rows) == 24
    for source, row in zip(sources, rows, strict=True):
        shown = Image.open(io.BytesIO(base64.b64decode(source.partition(",")[2])))
        np.testing.assert_array_equal(np.array(shown), images[row])


def test_the_commands_on_the_page_make_the_same_bits_from_nothing(
    run: Run, train_once: Train, tmp_path: Path
) -> None:
    model = train_once(*GOOD)
    assert run("report", model, "-q").code == 0
    again, anew = read_page("model-report.html").texts["pre"]
    assert again == "mnistcli reproduce model.h5"
    script, command = anew.rsplit("\n", 1)
    subprocess.run(["sh", "-c", script], check=True, cwd=tmp_path)
    words = shlex.split(command)
    assert words == ["mnistcli", "train", "model-again.yaml", "-o", "model-again.h5"]
    assert run(*words[1:]).code == 0
    first, second = (read_checkpoint(Path(name)) for name in (model, "model-again.h5"))
    assert hash_weights(first.weights) == hash_weights(second.weights)


def test_json_tells_the_path_and_the_facts(run: Run, train_once: Train) -> None:
    model = train_once(*GOOD)
    answer = run("report", model, "--split", "validation", "-o", "held.html", "--json").json
    (truth,) = run("evaluate", model, "--split", "validation", "--json").json["results"]
    size = Path("held.html").stat().st_size
    assert (answer["path"], answer["bytes"]) == ("held.html", size)
    assert answer["dataset"]["name"] == "mnist"
    for key in ("split", "count", "loss", "accuracy"):
        assert answer[key] == truth[key]
    wrong = truth["count"] - sum(truth["confusion"][k][k] for k in range(10))
    assert answer["mistakes"] == wrong
    assert size < 100_000


def test_the_same_run_gives_the_same_page_and_nothing_is_overwritten(
    run: Run, train_once: Train
) -> None:
    model = train_once(*GOOD)
    assert run("report", model).code == 0
    before = Path("model-report.html").read_bytes()
    ended = run("report", model)
    assert ended.code == 2
    assert "model-report.html exists. Choose another name, or give --overwrite" in ended.err
    assert run("report", model, "--overwrite").code == 0
    assert Path("model-report.html").read_bytes() == before
    assert run("report", model, "-o", "page.pdf").code == 2
    assert run("report", "missing.h5").code == 5
    assert sorted(path.name for path in Path().iterdir()) == ["model-report.html", "model.h5"]


def test_a_foreign_file_is_reported_as_far_as_it_is_known(run: Run) -> None:
    write_dense(Path("theirs.h5"), 784, 10)
    ended = run("report", "theirs.h5", "--json")
    assert (ended.code, ended.json["accuracy"], ended.json["dataset"]) == (0, None, None)
    text = read_page("theirs-report.html").texts["body"][0]
    assert "7,850" in text
    assert "no record of its training" in text
    assert "Confusion" not in text
    named = run("report", "theirs.h5", "--dataset", "mnist", "--overwrite", "--json")
    assert named.json["count"] == 200
    page = read_page("theirs-report.html")
    assert {"Confusion", "Calibration"} <= set(page.texts["h2"])
    assert page.texts["footer"][0].endswith("mnistcli report theirs.h5 --dataset mnist")
    ended = run("report", "theirs.h5", "--split", "train", "--overwrite")
    assert (ended.code, "--dataset" in ended.err) == (2, True)


def test_inputs_that_are_no_images_are_shown_as_numbers(run: Run) -> None:
    network = describe_dense(2, 1, activation="sigmoid")
    write_model(Path("gate.h5"), network, draw_dense(2, 1))
    mistakes = run("report", "gate.h5", "--dataset", "xor", "--json").json["mistakes"]
    tiles = read_page("gate-report.html").texts["li"]
    assert mistakes == len(tiles) > 0
    assert all(re.match(r"[01], [01][01] 0\.\d{3}is [01]row \d$", tile) for tile in tiles)


def test_a_file_that_was_changed_says_so_on_its_page(run: Run, train_once: Train) -> None:
    model = train_once(*GOOD)
    with h5py.File(model, "r+") as file:
        file.attrs["note"] = "changed"
    assert run("report", model, "--dataset", "mnist").code == 0
    page = read_page("model-report.html")
    assert "model.h5: changed since mnistcli wrote it" in page.texts["p"][0]
    assert "pre" not in page.texts


def write_hostile(path: Path) -> Path:
    """A checkpoint with a valid checksum in which every free text is an attack."""
    state, record = make_run()
    environment = record.environment.model_copy(
        update={
            "versions": {"keras": EVIL, EVIL: EVIL},
            "processor": EVIL,
            "processor_features": (EVIL,),
        }
    )
    names = (EVIL, *"12345678", "\"'&<>")
    own = {"name": "files", "path": "/gone.npz", "size": [28, 28], "classes": names}
    replace_checkpoint(
        path,
        state,
        record.model_copy(
            update={
                "config": Config.model_validate({"dataset": own}),
                "dataset": Identity("files", "0" * 64, {}, None, EVIL),
                "class_names": names,
                "environment": environment,
                "init_from": f"$(touch owned) {EVIL}",
                "init_weights_sha256": EVIL,
            }
        ),
    )
    return path


def test_text_from_a_hostile_checkpoint_stays_text(
    run: Run, tmp_path: Path, digits_directory: Path
) -> None:
    model = write_hostile(tmp_path / "<script>alert(1)<!--.h5")
    ended = run("report", model, "--data", digits_directory / "mnist.npz", "-o", "page.html")
    assert ended.code == 0, ended.err
    page = read_page("page.html")
    page.check_harmless()
    assert page.texts["title"][0].startswith("<script>alert(1)<!--.h5")
    assert page.texts["body"][0].count(EVIL) >= 6
    start = f"mnistcli train '<script>alert(1)<!---again.yaml' --init-from '$(touch owned) {EVIL}"
    assert start.replace("'owned'", "'\"'\"'owned'\"'\"'") in page.texts["pre"][1]


def test_markup_escapes_everything_but_itself() -> None:
    assert tag("b", "<i>\x1b[2J\u202e", class_='"') == (
        '<b class="&quot;">&lt;i&gt;\\x1b[2J\\u202e</b>'
    )
    assert escape(escape("&")) == "&amp;"
    assert escape(Markup("<b>") + "<i>") == "&lt;b&gt;&lt;i&gt;"


@pytest.mark.parametrize(
    "values",
    [
        (0.5,),
        (1.0, 1.0, 1.0),
        (0.3, math.nan, 0.2, math.inf, 0.1),
        (math.nan,),
        (-1e308, 1e308, 1e90, -1e90),
        (5e-324, 0.0),
        (1.0, math.nextafter(1.0, 2.0)),
        tuple(float(k % 97) for k in range(100_000)),
    ],
)
def test_every_line_lies_within_its_picture(values: tuple[float, ...]) -> None:
    svg = draw_panel(Panel("loss", (Line("training", values),)))
    (path,) = re.findall(r'<path d="([^"]*)"', svg)
    places = re.findall(r"([\d.e+-]+) ([\d.e+-]+)", path)
    assert "nan" not in path + svg.replace("training nan", "")
    assert all(48 <= float(x) <= 352 and 10 <= float(y) <= 200 for x, y in places)
    assert bool(places) == any(abs(value) < 1e100 for value in values)
    assert len(svg) < 20_000
    assert path.count("M") == (3 if len(values) == 5 else bool(places))


def test_axes_have_round_numbers() -> None:
    assert choose_ticks(0.0, 1.0) == pytest.approx((0, 0.2, 0.4, 0.6, 0.8, 1))
    assert choose_ticks(0.041, 0.31) == pytest.approx((0.1, 0.2, 0.3))


# What a reader would trip over: things beyond the edge, text that is small or pale.
FAULTS = """(() => {
  const faults = [], width = document.documentElement.clientWidth;
  const parse = text => (text.match(/[\\d.]+/g) || []).map(Number);
  const mix = (top, below) => { const a = top[3] ?? 1; return [0, 1, 2].map(i => top[i] * a + below[i] * (1 - a)); };
  const light = rgb => { const [r, g, b] = rgb.map(v => v / 255).map(v => v <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4); return .2126 * r + .7152 * g + .0722 * b; };
  const ground = e => { const up = e ? ground(e.parentElement) : [255, 255, 255]; return e ? mix(parse(getComputedStyle(e).backgroundColor), up) : up; };
  if (document.documentElement.scrollWidth > width) faults.push('the page is wider than the screen');
  for (const e of document.querySelectorAll('body *')) {
    const box = e.getBoundingClientRect(), style = getComputedStyle(e);
    if (box.width && (box.right > width + 1 || box.left < -1)) faults.push('beyond the edge: ' + e.outerHTML.slice(0, 90));
    if (![...e.childNodes].some(n => n.nodeType === 3 && n.data.trim()) || e.tagName === 'title') continue;
    const scale = e.ownerSVGElement ? e.ownerSVGElement.getBoundingClientRect().width / e.ownerSVGElement.viewBox.baseVal.width : 1;
    if (parseFloat(style.fontSize) * scale < 10) faults.push('small: ' + e.outerHTML.slice(0, 90));
    const a = light(parse(e.ownerSVGElement ? style.fill : style.color).slice(0, 3)), b = light(ground(e).slice(0, 3));
    if ((Math.max(a, b) + .05) / (Math.min(a, b) + .05) < 4.5) faults.push('pale: ' + e.outerHTML.slice(0, 90));
  }
  for (const image of document.images) if (!image.naturalWidth) faults.push('no picture: ' + image.alt);
  return faults;
})()"""  # noqa: E501


@pytest.fixture(scope="module")
def browser() -> Browser:
    with open_browser() as opened:
        yield opened


def test_in_a_browser_it_is_readable_on_small_and_large_screens_light_and_dark(
    browser: Browser, run: Run, train_once: Train
) -> None:
    train_once(*GOOD)
    write_hostile(Path("hostile.h5"))
    for name in ("model", "hostile"):
        assert run("report", f"{name}.h5").code == 0
        page = Path(f"{name}-report.html")
        for width in (400, 1400):
            grounds = set()
            for scheme in ("light", "dark"):
                browser.requests.clear()
                browser.open(page, width, scheme)
                assert browser.evaluate(FAULTS) == [], (name, width, scheme)
                assert browser.evaluate("document.querySelectorAll('svg').length") == 3
                assert browser.requests == [page.absolute().as_uri()]
                grounds.add(browser.evaluate("getComputedStyle(document.body).backgroundColor"))
            assert len(grounds) == 2
        assert browser.evaluate("document.title").startswith(f"{name}.h5")
    assert browser.complaints == []


def test_in_a_browser_the_page_forbids_what_would_have_slipped_in(
    browser: Browser, run: Run, train_once: Train
) -> None:
    """And the probes of the test above notice it."""
    assert run("report", train_once(*GOOD)).code == 0
    content = Path("model-report.html").read_text(encoding="utf-8")
    slipped = "<script>document.title='owned'</script><img src='http://127.0.0.1:9/x.png' alt=''>"
    wide = f"<span>{'x' * 200}</span>"
    page = Path("slipped.html")
    page.write_text(content.replace("</main>", f"{slipped}{wide}</main>"), encoding="utf-8")
    browser.complaints.clear()
    browser.requests.clear()
    browser.open(page, 400, "light")
    assert browser.evaluate("document.title").startswith("model.h5")
    assert "no picture: " in browser.evaluate(FAULTS)
    assert "the page is wider than the screen" in browser.evaluate(FAULTS)
    assert len(browser.complaints) >= 2
    browser.complaints.clear()
