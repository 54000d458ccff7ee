"""The page at /, in a real browser: what a person sees and does, with a mouse or without, by day and by night."""

import shutil
from functools import partial
from pathlib import Path

import pytest

from softprompt.base_model import load_base_model
from softprompt.embedded.s3 import embedded_s3
from softprompt.release.store import open_store
from tests.serving_node import Name, StatedChannel, name, node_of, server_of
from tests.unit.serving.test_access import write
from tests.waiting import wait_for

webdriver = pytest.importorskip("selenium.webdriver", reason="selenium drives the browser")
BROWSER, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
pytestmark = pytest.mark.skipif(not (BROWSER and DRIVER), reason="no chromium and chromedriver on PATH")

FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
)


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = BROWSER
    for flag in [*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('browser')}", "--window-size=1100,1000"]:
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options, Service(DRIVER))
    driver.set_page_load_timeout(60)
    yield driver
    driver.quit()


@pytest.fixture(scope="module")
def channel(tmp_path_factory, llama_directory):
    folder = tmp_path_factory.mktemp("page")
    with embedded_s3(folder / "s3") as server:
        channel = StatedChannel(folder, open_store("s3://softprompt/page", server.access), load_base_model(llama_directory))
        canary = Name([(channel.prompt(2), 9), (channel.prompt(3), 1)])
        labels = channel.prompt(1, task="classification")
        channel.state({"support-triage": name(labels, pinned=True), "replies": canary})
        yield channel


@pytest.fixture(scope="module")
def url(channel):
    with node_of(channel, base_name="base:tiny") as node, server_of(node) as found:
        yield found


soon = partial(wait_for, timeout_seconds=30, every_seconds=0.05)


def element(browser, css):
    return browser.find_element("css selector", css)


def open_page(browser, url):
    browser.get(url)
    soon(lambda: browser.find_elements("css selector", "#prompts tr"), "the prompts are listed")


def said(browser, side):
    return soon(
        lambda: (
            element(browser, f"#answer-{side} .facts").text
            and (element(browser, f"#answer-{side} .said").text, element(browser, f"#answer-{side} .facts").text)
        ),
        f"the {side} prompt has answered",
    )


def test_it_shows_what_the_node_serves(browser, url, channel):
    open_page(browser, url)
    rows = [row.text for row in browser.find_elements("css selector", "#prompts tr")]
    assert [row.split()[0] for row in rows] == ["replies", "support-triage", "base:tiny"]
    assert channel.prompt(2).digest[:12] in rows[0]
    assert "weight 9" in rows[0]
    assert "generation 2" in element(browser, "#node").text


def test_one_prompt_against_the_bare_base_by_keyboard_alone(browser, url, channel):
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.common.keys import Keys

    open_page(browser, url)
    ActionChains(browser).send_keys(Keys.TAB).perform()
    assert browser.switch_to.active_element.get_attribute("class") == "skip"
    ActionChains(browser).send_keys(Keys.ENTER, Keys.TAB).perform()
    assert browser.switch_to.active_element.get_attribute("id") == "text"
    ActionChains(browser).send_keys("ruby", Keys.TAB, "support", Keys.TAB, "base", Keys.TAB).perform()
    assert browser.switch_to.active_element.tag_name == "button"
    ActionChains(browser).send_keys(Keys.ENTER).perform()
    label, facts = said(browser, "first")
    assert channel.prompt(1, task="classification").digest[:12] in facts
    assert "%" in label
    text, facts = said(browser, "second")
    assert "bare base model" in facts
    assert text


def test_a_text_is_streamed_and_never_becomes_markup(browser, url, channel):
    from selenium.webdriver.support.select import Select

    open_page(browser, url)
    element(browser, "#text").send_keys("<img src=x onerror=alert(1)>")
    Select(element(browser, "#first")).select_by_value("replies")
    pinned = f"replies@sha256:{channel.prompt(3).digest}"
    Select(element(browser, "#second")).select_by_value(pinned)
    element(browser, "#ask button").click()
    assert said(browser, "first")[0]
    assert channel.prompt(3).digest[:12] in said(browser, "second")[1]
    assert not browser.find_elements("css selector", ".answers img")
    soon(lambda: element(browser, "#prompts tr").text.split("\n")[0].startswith("replies"), "the prompts are listed again")


def test_nothing_comes_from_elsewhere_and_the_browser_finds_no_fault(browser, url):
    open_page(browser, url)
    browser.get_log("browser")
    open_page(browser, url)
    assert [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"] == []
    loaded = browser.execute_script("return performance.getEntriesByType('resource').map(entry => entry.name)")
    assert all(address.startswith((url, "data:")) for address in loaded)
    blocked = browser.execute_async_script(
        "const done = arguments[0];"
        "document.addEventListener('securitypolicyviolation', event => done(event.violatedDirective));"
        "const script = document.createElement('script'); script.textContent = '1'; document.body.append(script);"
    )
    assert blocked.startswith("script-src")


def test_it_asks_for_a_token_where_the_node_does(browser, channel, tmp_path):
    write(tmp_path / "tokens.yaml", {"open-sesame": '["replies"]'})
    with node_of(channel, tokens=tmp_path / "tokens.yaml") as node, server_of(node) as url:
        browser.get(url)
        soon(lambda: element(browser, "#login").is_displayed(), "a token is asked for")
        assert browser.switch_to.active_element.get_attribute("id") == "token"
        assert not element(browser, "#served").is_displayed()
        element(browser, "#token").send_keys("wrong\n")
        soon(lambda: "not known" in element(browser, "#node").text, "the token is refused")
        element(browser, "#token").clear()
        element(browser, "#token").send_keys("open-sesame\n")
        soon(lambda: browser.find_elements("css selector", "#prompts tr"), "the prompts are listed")
        assert [row.text.split()[0] for row in browser.find_elements("css selector", "#prompts tr")] == ["replies"]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1100, 360])
def test_it_is_readable_by_day_and_night_on_a_desk_and_a_phone(browser, url, scheme, width, request):
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": scheme}]})
    metrics = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    try:
        open_page(browser, url)
        element(browser, "#text").send_keys("ruby")
        element(browser, "#first").send_keys("support")
        element(browser, "#ask button").click()
        said(browser, "first")
        said(browser, "second")
        wide = browser.execute_script("return document.documentElement.scrollWidth")
        assert wide <= width, "nothing sticks out to the side"
        for css in ("body", "#node", "button", ".facts", "td"):
            assert contrast(browser, css) >= 4.5, css
        if folder := request.config.getoption("--basetemp"):
            browser.save_screenshot(str(Path(folder) / f"page-{scheme}-{width}.png"))
    finally:
        browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})


def contrast(browser, css) -> float:
    """Of text and background, as WCAG 2.2 computes it."""
    script = """
      const parts = (color) => color.match(/[\\d.]+/g).map(Number);
      const element = document.querySelector(arguments[0]);
      let behind = element;
      while (parts(getComputedStyle(behind).backgroundColor)[3] === 0) behind = behind.parentElement;
      return [getComputedStyle(element).color, getComputedStyle(behind).backgroundColor].map(parts);
    """
    bright = [luminance(color[:3]) for color in browser.execute_script(script, css)]
    return (max(bright) + 0.05) / (min(bright) + 0.05)


def luminance(color) -> float:
    linear = [(c / 255 / 12.92) if c / 255 <= 0.04045 else ((c / 255 + 0.055) / 1.055) ** 2.4 for c in color]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
