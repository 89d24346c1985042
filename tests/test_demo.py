"""The interactive figure shows the shuffles that the library makes, to eyes, hands, keys and screen readers."""

import json
import re
from contextlib import contextmanager

import browser
import pytest
import torch

from ssconv_lib import SSConv2d, demo

GROUPS = {"leading": 1, "interleaved": 4, "listing": 4}
SHELL = (
    "<!doctype html><html lang=en {theme}><meta charset=utf-8><meta name=viewport content='width=device-width'>"
    "<link rel=icon href='data:,'><body style='margin:8px' {body}>{figure}</body></html>"
)
COLOURS = "side => [...document.querySelectorAll('.ssd-panel')[side].querySelectorAll('.ssd-cell')]"
COLOURS += ".map(cell => getComputedStyle(cell).backgroundColor)"
# the relative luminance of WCAG, and the lowest contrast of a text that is shown with the colour behind it
CONTRAST = """() => {
  const light = (colour) => colour.match(/[\\d.]+/g).slice(0, 3).map((v) => v / 255)
    .map((v) => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const behind = (one) => {
    for (; one; one = one.parentElement) {
      const colour = getComputedStyle(one).backgroundColor;
      if (colour !== "rgba(0, 0, 0, 0)") return light(colour);
    }
    return 1;
  };
  const texts = [...document.querySelectorAll(".ss-demo p, .ss-demo b, .ss-demo span, .ss-demo button")];
  return Math.min(...texts.filter((one) => one.offsetParent && one.textContent.trim()).map((one) => {
    const [a, b] = [light(getComputedStyle(one).color), behind(one)].sort((x, y) => y - x);
    return (a + 0.05) / (b + 0.05);
  }));
}"""


def sources(layout, alpha, size=6):
    """Which input value stands at each place behind the library's own shuffle, counted from 0."""
    options = {"alpha": alpha, "spatial_size": size, "layout": layout, "seed": 0}
    layer = SSConv2d(16, 16, 3, padding=1, groups=GROUPS[layout], **options)
    return layer.shuffle(torch.arange(16 * size**2).view(16, size, size)).flatten().tolist()


def named(index, size=6):
    channel, rest = divmod(index, size**2)
    return f"row {rest // size + 1}, column {rest % size + 1} of channel {channel + 1}"


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("demo")
    figure = demo.html()
    pages = {"light": {}, "dark": {"theme": 'data-theme="dark"'}, "lab": {"body": 'data-jp-theme-light="false"'}}
    for name, options in {**pages, "twice": {"figure": figure * 2}}.items():
        text = SHELL.format(**{"theme": "", "body": "", "figure": figure, **options})
        (folder / f"{name}.html").write_text(text, encoding="utf-8")
    with browser.served(folder) as at:
        yield at


@pytest.fixture
def opened(chromium, site):
    """Open one of the pages; it must not complain."""

    @contextmanager
    def at(name="light", **options):
        with browser.opened(chromium, f"{site}/{name}.html", **options) as (page, complaints):
            yield page
        assert complaints == []

    return at


def cells(page, side):
    return page.locator(".ssd-panel").nth(side).locator(".ssd-cell")


def choose(page, layout, step):
    page.locator(f"input[value={layout}]").check(force=True)
    page.locator("input[type=range]").fill(str(step))


def where(page, side, mark):
    """The indices of a panel's cells with this mark."""
    found = f"cells => cells.map((cell, k) => cell.matches('{mark}') ? k : -1).filter(k => k >= 0)"
    return cells(page, side).evaluate_all(found)


def test_the_slider_has_a_stop_for_each_channel_and_the_tables_are_small():
    data = demo.tables(16, 6, 0)
    assert [float(alpha) for alpha in data["alphas"]] == [k / 16 for k in range(17)] + [0.06]
    assert [len(data["pi"][s]) for s in range(1, 17)] == [36 * s for s in range(1, 17)]
    assert sorted(set(data["values"]))[:: len(set(data["values"])) - 1] == [0, 99]
    assert len(demo.html().encode()) < 60_000


def test_it_stands_by_itself_and_leaks_no_style():
    text = demo.html()
    assert text.lstrip().startswith("<div") and text.rstrip().endswith("</div>")
    assert not re.search(r"\sid=|\bsrc=|\bhref=|url\(|@import|fetch\(", text)
    assert re.findall(r"https?://[^\"]+", text) == ["http://www.w3.org/2000/svg"] * text.count("createElementNS")
    style = re.search("<style>(.*?)</style>", text, re.DOTALL)[1]
    rules = re.findall(r"(?:^|[{}])\s*([^{}@]+)\{", re.sub(r"@[^{]+\{", "", style))
    assert len(rules) > 40
    assert all(".ss-demo" in one for rule in rules for one in re.sub(r"\([^)]*\)", "", rule).split(","))


def test_show_is_the_same_figure_for_a_notebook():
    assert demo.show().data == demo.html()


@pytest.mark.parametrize(("channels", "size"), [(6, 6), (0, 6), (16, 0)])
def test_an_impossible_figure_is_refused(channels, size):
    with pytest.raises(ValueError, match=f"channels={channels}, size={size}: expected a multiple of 4"):
        demo.html(channels, size)


def test_other_sizes_and_seeds_are_drawn():
    text = demo.html(channels=8, size=5, seed=3)
    data = json.loads(re.search(r'json">(.*?)</script>', text)[1])
    expected = SSConv2d(8, 8, 3, alpha=0.25, spatial_size=5, seed=3).permutation.tolist()
    assert (data["columns"], len(data["values"]), data["pi"]["2"]) == (2, 200, expected)


@pytest.mark.filterwarnings("ignore:alpha=")  # Eq. 3 above 1/2
@pytest.mark.parametrize("layout", GROUPS)
def test_what_the_page_shows_behind_the_shuffle_is_what_the_layer_gives(opened, layout):
    with opened() as page:
        before = page.evaluate(COLOURS, 0)
        assert len(set(before)) > 60, "shades enough to tell values apart"
        for step in (0, 1, 3, 4, 7, 10, 16):
            choose(page, layout, step)
            expected = sources(layout, step / 16)
            assert page.evaluate(COLOURS, 1) == [before[k] for k in expected]
            for k in (5, 100, 130 + step, 571):
                cells(page, 0).nth(k).focus()
                assert where(page, 0, ".ssd-end") == [k]
                assert where(page, 1, ".ssd-end") == [expected.index(k)]


def test_the_papers_alpha_shuffles_none_of_16_channels_by_eq_2_and_one_by_eq_3(opened):
    rules = {"leading": "α = 0.06: ⌊0.06 · 16⌋ = 0 channels are shuffled, so nothing moves."}
    rules["listing"] = rules["leading"]
    rules["interleaved"] = (
        "α = 0.06: every 16th channel is shuffled, 1 in all. Of the 4 groups, 1 gets shuffled values."
    )
    with opened() as page:
        before = page.evaluate(COLOURS, 0)
        page.get_by_role("button", name="0.06").click()
        for layout, rule in rules.items():
            page.locator(f"input[value={layout}]").check(force=True)
            assert page.inner_text(".ssd-rule") == rule
            assert page.evaluate(COLOURS, 1) == [before[k] for k in sources(layout, 0.06)]


def test_a_click_on_a_value_says_where_it_goes(opened):
    expected, k = sources("leading", 0.25), 36 + 2 * 6 + 4
    with opened() as page:
        cells(page, 0).nth(k).click()
        assert page.inner_text(".ssd-said") == f"The value at {named(k)} goes to {named(expected.index(k))}."
        cells(page, 0).nth(8 * 36).click()
        stays = "Channel 9 is not shuffled: its value at row 1, column 1 stays where it is."
        assert page.inner_text(".ssd-said") == stays
        choose(page, "listing", 3)
        cells(page, 0).nth(3 * 36 + 8).click()
        whole = f"The value at {named(3 * 36 + 8)} goes to {named(15 * 36 + 8)}: its channel is not shuffled, but moves"
        assert page.inner_text(".ssd-said") == f"{whole} as a whole."
        assert page.locator(".ssd-panel").nth(1).locator(".ssd-name").last.inner_text() == "16, was 4"


def test_at_alpha_0_nothing_moves(opened):
    with opened() as page:
        page.locator("input[type=range]").fill("0")
        assert page.inner_text(".ssd-rule") == "α = 0: ⌊0 · 16⌋ = 0 channels are shuffled, so nothing moves."
        assert page.inner_text(".ssd-said").endswith("stays where it is, and so do all others.")
        assert page.evaluate(COLOURS, 0) == page.evaluate(COLOURS, 1)
        assert page.locator(".ssd-shuffled").count() == 0


@pytest.mark.parametrize(("layout", "k"), [("leading", 36 + 2 * 6 + 3), ("leading", 0), ("interleaved", 7 * 36 + 14)])
def test_a_click_on_a_place_shows_what_its_window_reads(opened, layout, k):
    group = range(16) if layout == "leading" else range(k // 144 * 4, k // 144 * 4 + 4)
    row, column = k % 36 // 6, k % 6
    window = {(i, j) for i in range(6) for j in range(6) if abs(i - row) < 2 and abs(j - column) < 2}
    expected = sources(layout, 0.25)
    read = [expected[c * 36 + i * 6 + j] for c in group for i, j in window]
    away = sum((s % 36 // 6, s % 6) not in window for s in read)
    with opened() as page:
        choose(page, layout, 4)
        cells(page, 1).nth(k).click()
        assert where(page, 0, ".ssd-read") == sorted(read)
        own = [expected[k // 36 * 36 + i * 6 + j] for i, j in window]
        assert where(page, 0, ".ssd-dot") == sorted(own)
        assert page.locator("svg path:not(.ssd-halo)").count() == len(window)
        said = page.inner_text(".ssd-said")
        assert page.locator(".ssd-window").count() == len(group)
    assert f"{len(read)} values, {away} from outside it." in said
    assert f"It sees {len({s % 36 for s in read})} of the 36 positions, {len(window)} without the shuffle." in said
    assert said.startswith("One output at" if layout == "leading" else "One output of group 2 at")


def test_keys_do_all_that_a_mouse_does(opened):
    with opened() as page:
        page.locator("input[type=range]").focus()
        page.keyboard.press("ArrowRight")
        assert page.inner_text(".ssd-alpha b") == "α = 0.3125"
        page.keyboard.press("ArrowLeft")
        cells(page, 0).nth(0).focus()
        moves = [("ArrowRight", 1), ("ArrowDown", 7), ("PageDown", 43), ("PageUp", 7), ("ArrowUp", 1), ("ArrowUp", 1)]
        moves += [("ArrowRight", k) for k in (2, 3, 4, 5, 36)] + [("ArrowLeft", 5), ("PageUp", 5)]
        for key, expected in moves:
            page.keyboard.press(key)
            assert where(page, 0, ":focus") == where(page, 0, ".ssd-end") == [expected]
        target = sources("leading", 0.25).index(5)
        page.keyboard.press("Tab")
        assert where(page, 1, ":focus") == [target], "the place where the value goes"
        assert page.inner_text(".ssd-said").startswith("One output at row")
        assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
        page.keyboard.press("Shift+Tab")
        assert where(page, 0, ":focus") == [5]


def test_it_has_names_for_screen_readers(opened):
    with opened() as page:
        assert page.get_by_role("slider", name="alpha").get_attribute("aria-valuetext") == (
            "alpha = 0.25, 4 channels shuffled"
        )
        assert page.get_by_role("radio").count() == 3
        assert page.get_by_role("button", name="channel 2, row 3, column 5", exact=True).count() == 2
        assert page.locator("[aria-live=polite]").count() == 2
        assert page.locator(".ssd-cell[tabindex='0']").count() == 2, "a stop of the Tab key on each side"


@pytest.mark.parametrize("viewport", [browser.PHONE, browser.DESKTOP], ids=["phone", "desktop"])
def test_it_fits_the_page(opened, viewport):
    with opened(viewport=viewport) as page:
        for layout, step in (("leading", 4), ("listing", 3)):
            choose(page, layout, step)
            assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
            assert page.locator(".ssd-body").evaluate("body => body.scrollWidth <= body.clientWidth")
        first, second = (page.locator(".ssd-panel").nth(side).bounding_box() for side in (0, 1))
        stacked = second["y"] >= first["y"] + first["height"]
        assert stacked == (viewport is browser.PHONE)
        assert cells(page, 0).first.bounding_box()["width"] > 11


@pytest.mark.parametrize("hand", ["tap", "click"])
def test_a_finger_or_mouse_chooses_what_it_points_at_even_when_the_sentence_grows(chromium, site, hand):
    context = chromium.new_context(viewport={"width": 270, "height": 2000}, has_touch=True)
    page = context.new_page()
    page.goto(f"{site}/light.html")
    before = page.locator(".ssd-said").bounding_box()["height"]
    getattr(cells(page, 1).nth(13 * 36 + 32), hand)()
    assert "One output at row 6, column 3 reads" in page.inner_text(".ssd-said")
    assert page.locator(".ssd-said").bounding_box()["height"] > before, "on a phone as narrow as this"
    context.close()


@pytest.mark.parametrize("name", ["light", "dark", "lab"])
def test_every_text_stands_out_from_its_ground(opened, name):
    with opened(name) as page:
        choose(page, "listing", 3)
        assert page.evaluate(CONTRAST) >= 4.5
        ground = page.evaluate("getComputedStyle(document.querySelector('.ssd-body')).backgroundColor")
    assert (ground == "rgb(255, 255, 255)") == (name == "light")


def test_two_on_a_page_do_not_meet(opened):
    with opened("twice") as page:
        assert page.locator(".ssd-panel").count() == 4
        page.locator("input[type=range]").first.fill("0")
        page.locator("input[value=listing]").first.check(force=True)
        rules = page.locator(".ssd-rule").all_inner_texts()
        assert ["nothing moves" in rule for rule in rules] == [True, False]
        assert page.locator("input[value=leading]").nth(1).is_checked()


def test_without_javascript_it_is_a_sentence(chromium, site):
    context = chromium.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(f"{site}/light.html")
    assert page.inner_text("body").strip() == "Here is an interactive figure of the shuffle; it needs JavaScript."
    context.close()


def test_in_forced_colours_the_maps_keep_their_greys(chromium, site):
    context = chromium.new_context(forced_colors="active")
    page = context.new_page()
    page.goto(f"{site}/light.html")
    greys = cells(page, 0).evaluate_all("cells => cells.map(cell => getComputedStyle(cell).backgroundColor)")
    context.close()
    assert len(set(greys)) > 50
