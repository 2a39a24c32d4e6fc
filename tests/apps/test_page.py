"""The page in a real browser: the plan first, every field, a run, a reload, a phone, the keyboard, a hostile output."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from allmend.verbs.app import AppServer

PATIENCE = 120_000  # milliseconds
expect.set_options(timeout=PATIENCE)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Debian's Chromium; its own sandbox does not start for root."""
    with sync_playwright() as made:
        flags = ["--no-sandbox"] if os.geteuid() == 0 else []
        running = made.chromium.launch(executable_path="/usr/bin/chromium", args=flags)
        yield running
        running.close()


@pytest.fixture
def page(browser: Browser, server: AppServer) -> Iterator[Page]:
    """A visitor's first look; an error of the page's own script fails the test."""
    context = browser.new_context(base_url=server.url)
    context.set_default_timeout(PATIENCE)
    made = context.new_page()
    troubles: list[str] = []
    made.on("pageerror", lambda error: troubles.append(str(error)))
    made.goto("/wave/")
    yield made
    context.close()
    assert not troubles


def _run(page: Page) -> None:
    page.get_by_role("button", name="Run").click()
    _finished(page)


def _finished(page: Page) -> None:
    expect(page.locator("#state")).to_have_text(re.compile("^(finished|failed|stopped)"), timeout=PATIENCE)
    expect(page.locator("#state")).to_have_text("finished")


def test_the_plan_is_read_before_the_first_run_and_not_again(page: Page) -> None:
    expect(page.get_by_role("button", name="Run")).to_be_disabled()
    expect(page.locator("#plan")).to_have_attribute("open", "")
    page.get_by_role("button", name="I have read this").click()
    expect(page.get_by_role("button", name="Run")).to_be_enabled()
    page.reload()
    expect(page.get_by_role("button", name="Run")).to_be_enabled()
    expect(page.locator("#plan")).not_to_have_attribute("open", "")


def test_every_field_arrives_and_a_reload_shows_the_same_result(page: Page) -> None:
    page.get_by_role("button", name="I have read this").click()
    page.locator("#p-frequency").fill("8")
    page.get_by_label("name", exact=True).fill("two\"quotes'")
    page.get_by_label("colour").select_option("green")
    page.get_by_label("style").fill("wavy")
    page.get_by_label("grid").uncheck()
    page.get_by_label("day").fill("2027-02-03")
    page.get_by_label("count").fill("12")
    page.get_by_label("ratio").fill("0.25")
    page.get_by_label("points").fill("[4, 5]")
    _run(page)
    said = """[8, 'two"quotes\\'', 'green', 'wavy', False, '2027-02-03', 12, 0.25, [4, 5]]"""
    expect(page.locator("#cell-2")).to_contain_text(said)
    page.reload()
    expect(page.locator("#cell-2")).to_contain_text(said)
    expect(page.get_by_label("style")).to_have_value("wavy")
    expect(page.get_by_role("link", name="outputs/answer.txt")).to_be_visible()


def test_an_output_can_neither_read_the_page_nor_call_out(page: Page) -> None:
    page.get_by_role("button", name="I have read this").click()
    page.on("dialog", lambda dialog: pytest.fail("a script of the notebook ran in the page"))
    _run(page)
    caged = page.frame_locator("iframe.output").locator("body")
    expect(caged).to_contain_text("caged: SecurityError")
    expect(caged).to_contain_text("no way out")
    expect(page.locator("#cell-3")).to_contain_text("<script>alert(1)</script>")


def test_a_wrong_value_is_told_beside_its_field(page: Page) -> None:
    page.get_by_role("button", name="I have read this").click()
    page.get_by_label("points").fill("[1,")
    page.get_by_role("button", name="Run").click()
    expect(page.locator('[data-name="points"] .wrong')).to_contain_text("like a Python value")
    expect(page.get_by_role("button", name="Run")).to_be_enabled()


def test_by_keyboard_alone_on_a_phone(page: Page) -> None:
    page.set_viewport_size({"width": 360, "height": 740})
    page.locator("#read").focus()
    page.keyboard.press("Enter")
    page.keyboard.press("Enter")  # the Run button has the focus now
    _finished(page)
    widest = page.locator("main").bounding_box()
    assert widest is not None and widest["width"] <= 360


def test_two_people_see_their_own_runs(page: Page, browser: Browser, server: AppServer) -> None:
    page.get_by_role("button", name="I have read this").click()
    _run(page)
    mine = page.url.rpartition("/")[2]
    other = browser.new_context(base_url=server.url).new_page()
    other.goto("/wave/")
    other.locator("#history summary").click()
    expect(other.locator("#earlier ul")).to_be_attached()
    assert mine not in other.content()
    page.locator("#history summary").click()
    expect(page.locator(f'#earlier a[href$="{mine}"]')).to_be_attached()


def test_a_run_is_stopped_from_the_page(page: Page) -> None:
    page.goto("/slow/")
    page.get_by_role("button", name="I have read this").click()
    page.get_by_role("button", name="Run").click()
    expect(page.locator("#cell-1")).to_contain_text("begun")
    page.get_by_role("button", name="Stop").click()
    expect(page.locator("#state")).to_contain_text("stopped")


def test_a_cell_that_reads_a_line_gets_it_from_the_page_also_after_a_reload(page: Page) -> None:
    page.goto("/asks/")
    page.get_by_role("button", name="I have read this").click()
    page.get_by_role("button", name="Run").click()
    expect(page.locator("#asked pre")).to_have_text("Your <b>name</b>? ")
    page.reload()
    page.locator("#line-0").fill("Ada")
    page.locator("#line-0").press("Enter")
    expect(page.locator("#line-0")).not_to_be_attached()
    expect(page.locator("#line-1")).to_have_attribute("type", "password")
    page.locator("#line-1").fill("swordfish")
    page.get_by_role("button", name="Answer").click()
    _finished(page)
    expect(page.locator("#cell-1")).to_contain_text("Ada knows a word of 9")
    expect(page.locator("#cell-1")).not_to_contain_text("swordfish")


def test_a_button_in_an_output_calls_the_notebook_while_its_run_is_open(page: Page) -> None:
    page.goto("/clicks/")
    page.get_by_role("button", name="I have read this").click()
    page.get_by_role("button", name="Run").click()
    expect(page.locator("#state")).to_contain_text("buttons", timeout=PATIENCE)
    frame = page.frame_locator("#cell-1 iframe")
    frame.get_by_role("button", name="Join").click()
    expect(frame.locator("p")).to_have_text("A B' É")
    expect(page.locator("#cell-1")).to_contain_text("called with")
    frame.locator("i").click()
    expect(frame.locator("p")).to_have_text("ValueError: no such thing")
    page.reload()
    expect(page.locator("#cell-1 pre.stdout")).to_have_count(1)  # what the click printed, once
    page.get_by_role("button", name="Close it").click()
    expect(page.locator("#state")).to_contain_text("finished: every cell ran; a person closed it")
    page.frame_locator("#cell-1 iframe").locator("i").click()
    expect(page.locator("#state")).to_contain_text("the run takes no calls")


def test_a_notebooks_own_page_reaches_nothing_of_ours(browser: Browser, serving: AppServer) -> None:
    context = browser.new_context(base_url=serving.url)
    context.set_default_timeout(PATIENCE)
    page = context.new_page()
    page.goto("/")
    page.get_by_role("button", name="I have read this").click()
    page.get_by_role("button", name="Run").click()
    with context.expect_page() as opened:
        page.get_by_role("link", name="Open it in a new tab").click()
    theirs = opened.value
    expect(theirs.get_by_role("heading", name="A page of the notebook")).to_be_visible()
    assert "run-" in theirs.url
    assert "token" not in theirs.url
    for place, words in {
        "#opener": "opener true",
        "#cookies": "cookies [mine=1]",
        "#referrer": "referrer []",
        "#read": "refused TypeError",
        "#post": "refused TypeError",
        "#planted": "cookies now [mine=1]",
        "#framed": "refused",
        "#socket": "socket hello back",
        "#other": "no other socket",
    }.items():
        expect(theirs.locator(place)).to_contain_text(words)
    # What it tried to plant is not there, the page still knows its visitor, and the link does not work again.
    theirs.reload()
    expect(theirs.locator("#socket")).to_contain_text("hello back")
    assert not [each for each in context.cookies() if each["value"] == "planted"]
    page.reload()
    expect(page.locator("#servers a")).to_be_visible()
    page.get_by_role("button", name="Close it").click()
    expect(page.locator("#state")).to_have_text("finished: every cell ran; a person closed it")
    theirs.reload()
    expect(theirs.locator("body")).to_contain_text("is over")
    context.close()
