"""The pages in a real Chromium, from the first look to the first purchase. Needs Debian's packages chromium and chromium-driver.

SCREENSHOTS=docs/images scripts/test --all tests/contract/test_browser.py makes the pictures of the README anew.
"""

import json
import os
import re
import shutil
import threading
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from petstore import errors
from petstore.cli import seeding
from petstore.domain import logins
from tests.factories import PASSWORD
from tests.openapi_contract import DOCUMENT
from tests.services import running
from tests.waiting import eventually

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not (CHROMIUM and DRIVER), reason="there is no Chromium: apt-get install chromium chromium-driver"),
]
WIDE, PHONE, NARROW = (1280, 900), (390, 844), (320, 640)
EMAIL = "ana@example.com"


def patiently(condition):
    """A browser beside other tests is slow."""
    eventually(condition, 30)


class Browser:
    """A headless Chromium for which no host exists but ours; it remembers what it asked for, and what its console said."""

    def __init__(self, driver, base):
        self.driver, self.base, self.asked = driver, base, []

    def open(self, path):
        self.driver.get("about:blank")  # another part of the same page would not be loaded anew
        self.driver.get(self.base + path)

    def all(self, css):
        return self.driver.find_elements("css selector", css)

    def one(self, css):
        """The one element that is there and to be seen, waited for."""
        patiently(lambda: any(found.is_displayed() for found in self.all(css)))
        [found] = [found for found in self.all(css) if found.is_displayed()]
        return found

    def text(self, css):
        return self.one(css).text

    def shows(self, css, text):
        patiently(lambda: any(text in found.text for found in self.all(css)))

    def run(self, script, *arguments):
        return self.driver.execute_script(script, *arguments)

    def command(self, name, **parameters):
        """One of the DevTools protocol's."""
        self.driver.execute_cdp_cmd(name, parameters)

    def look(self, size=WIDE, scheme="light"):
        self.command("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        width, height = size
        self.command("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=size != WIDE)

    def requests(self):
        """Method and address of whatever it asked for in this test."""
        messages = [json.loads(entry["message"])["message"] for entry in self.driver.get_log("performance")]
        sent = [one["params"]["request"] for one in messages if one["method"] == "Network.requestWillBeSent"]
        self.asked += [(one["method"], one["url"]) for one in sent if not one["url"].startswith(("data:", "about:"))]
        return self.asked

    def console(self):
        """What its console said, violations of the page's policy too."""
        return [entry["message"] for entry in self.driver.get_log("browser")]


@contextmanager
def chromium(folder, base):
    from selenium.webdriver import Chrome, ChromeOptions
    from selenium.webdriver.chrome.service import Service

    options = ChromeOptions()
    options.binary_location = CHROMIUM
    for argument in (
        "--headless",
        "--no-sandbox",  # root has none
        "--disable-gpu",
        "--disable-quic",
        "--disable-dev-shm-usage",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        "--hide-scrollbars",
        f"--user-data-dir={folder}",
        "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
    ):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = Chrome(options, Service(DRIVER))
    try:
        yield Browser(driver, base)
    finally:
        driver.quit()


@pytest.fixture(scope="module")
def chrome(tmp_path_factory, service):
    host, port = service[1].address
    with chromium(tmp_path_factory.mktemp("chromium"), f"http://{host}:{port}") as browser:
        yield browser


@pytest.fixture
def browser(chrome, make):
    """The browser before the demo shop; afterwards, that it asked nobody but us, and that its console has nothing to say."""
    seeding.seed_demo(make.conn, 2)
    chrome.look()
    chrome.requests().clear()
    chrome.console()
    yield chrome
    assert {urlsplit(url).netloc for _, url in chrome.requests()} == {urlsplit(chrome.base).netloc}
    usual = r"the server responded with a status of 4\d\d"  # Chromium tells of each
    assert [line for line in chrome.console() if not re.search(usual, line)] == []


def log_in(browser, button="register", email=EMAIL, password=PASSWORD):
    browser.one("#email").clear()
    browser.one("#email").send_keys(email)
    browser.one("#password").clear()
    browser.one("#password").send_keys(password)
    browser.one(f"#login-form [name={button}]").click()


def press(browser, form):
    """Press the button of a form that sends a request; the status and JSON that the page then shows below it."""
    browser.run("document.querySelector(arguments[0]).nextElementSibling.replaceChildren()", form)
    browser.one(f"{form} > button").click()
    status = browser.text(f"{form} + .answer > p > strong")
    return int(status.split()[0]), json.loads(browser.run(f'return document.querySelector("{form} + .answer .body").textContent'))


def try_out(browser, operation):
    """Open an operation by its line in the contents, and press Send."""
    if not browser.one(f"#contents a[href='#{operation}']").is_displayed():
        browser.one("#contents summary").click()
    browser.one(f"#contents a[href='#{operation}']").click()
    in_sight(browser, operation)
    return press(browser, f"#{operation} form")


def step(number):
    """A form of the guided first purchase."""
    return f".steps > li:nth-child({number}) form.try"


def in_sight(browser, operation):
    """Wait until the head of an operation is the topmost thing where it stands, in the upper half of the window."""
    script = """const box = document.querySelector(`#${arguments[0]} > summary`);
        const {left, top, width, height} = box.getBoundingClientRect();
        return top > -1 && top < innerHeight / 2 && box.contains(document.elementFromPoint(left + width / 2, top + height / 2))"""
    patiently(lambda: browser.run(script, operation))


def sticks_out(browser, size):
    """Pixels by which the page is wider than the window. Of a phone's, which zooms out for a wide page, not by innerWidth."""
    return browser.run("return document.documentElement.scrollWidth") - size[0]


def picture(browser, name):
    """For the README, where it was asked for."""
    if folder := os.environ.get("SCREENSHOTS"):
        browser.run("document.activeElement.blur()")
        browser.driver.save_screenshot(str(Path(folder) / f"{name}.png"))


@pytest.mark.parametrize("size", [WIDE, PHONE], ids=["wide", "phone"])
def test_a_newcomer_goes_from_the_first_page_to_a_first_purchase(browser, make, size):
    browser.look(size)
    browser.open("/")
    browser.shows("#health", "ready (database ok, cache ok)")
    browser.shows("#products", str(make.scalar("SELECT count(*)::int FROM products")))
    assert browser.text("#in-stock") == str(make.scalar("SELECT count(*)::int FROM products WHERE stock > 0"))
    assert browser.text("#version") == DOCUMENT["info"]["version"]
    assert browser.text("#schema") == f"Schema {make.scalar('SELECT max(version) FROM schema_version')}"
    assert f"curl '{browser.base}/products?limit=3'" in browser.text("pre.code")
    if size == WIDE:
        picture(browser, "home")
    browser.one(".button").click()
    log_in(browser)
    browser.shows("#who", "Logged in as")
    assert browser.run("return document.getElementById('password').value") == ""
    status, products = press(browser, step(2))
    assert (status, len(products["items"]), products["items"][0]["stock"]) == (200, 3, 320)
    if size == WIDE:
        browser.run("location.hash = 'purchase_product'")
        in_sight(browser, "purchase_product")
        picture(browser, "docs")
    browser.run("document.querySelector(arguments[0]).scrollIntoView()", step(3))
    before = browser.run("return scrollY")
    status, invoice = press(browser, step(3))
    assert abs(browser.run("return scrollY") - before) < size[1] / 2  # the answer is where the button is
    assert (status, invoice["status"], invoice["total"]) == (201, "pending", "19.23")
    assert press(browser, step(3)) == (201, invoice)  # the same key
    assert "Idempotent-Replayed: true" in browser.text(f"{step(3)} + .answer .headers")
    rows = "SELECT i.id, i.total::text, u.email FROM invoices i JOIN users u ON u.id = i.user_id"
    assert make.rows(rows) == [(invoice["id"], "19.23", EMAIL)]
    assert (make.stock(1), make.stock(2)) == (318, products["items"][1]["stock"] - 1)
    assert press(browser, step(4))[1]["items"][0]["id"] == invoice["id"]
    asked = [url for method, url in browser.requests() if method == "POST"]
    assert asked == [browser.base + path for path in ("/register", "/login", "/purchase_product", "/purchase_product")]


def test_an_error_leads_to_its_page(browser, make):
    make.conn.execute("UPDATE products SET stock = 0 WHERE id = 2")
    browser.open("/docs#purchase_product")
    log_in(browser)
    browser.shows("#who", "Logged in as")
    status, problem = try_out(browser, "purchase_product")
    assert (status, problem["type"]) == (409, "/problems/not-enough-stock")
    shown = browser.text("#purchase_product .answer .failed")
    assert f"/products/1/quantity: {problem['errors'][0]['detail']}" in shown
    link = browser.one("#purchase_product .answer .failed a")
    assert link.text == errors.NotEnoughStock.title()
    link.click()
    patiently(lambda: len(browser.driver.window_handles) == 2)  # a new one: the first keeps its login
    first, second = browser.driver.window_handles
    browser.driver.switch_to.window(second)
    assert urlsplit(browser.driver.current_url).path == "/problems/not-enough-stock"
    assert browser.text("h1") == errors.NotEnoughStock.title()
    browser.driver.close()
    browser.driver.switch_to.window(first)
    assert "Logged in as" in browser.text("#who")
    browser.open("/problems/price-changed")
    picture(browser, "problem")


@pytest.mark.parametrize("size", [WIDE, PHONE], ids=["wide", "phone"])
def test_a_deep_link_opens_its_operation_and_nothing_covers_it(browser, size):
    browser.look(size)
    for fragment in ("#purchase_product", "#/purchases/purchase_product"):  # the second as in earlier releases
        browser.open(f"/docs{fragment}")
        in_sight(browser, "purchase_product")
        assert browser.one("#purchase_product form").is_displayed()
        assert sticks_out(browser, size) == 0
    browser.open("/docs#%")  # the fixture looks into the console
    browser.shows("h1", "Reference")


@pytest.mark.parametrize("size", [WIDE, PHONE], ids=["wide", "phone"])
def test_the_contents_lead_to_what_is_looked_for(browser, size):
    browser.look(size)
    browser.open("/docs")
    shown = (
        "return [...document.querySelectorAll('#contents [data-words] a')].filter((a) => a.checkVisibility()).map((a) => a.hash)"
    )
    everything = [f"#{one['operationId']}" for methods in DOCUMENT["paths"].values() for one in methods.values()]
    if size == PHONE:
        assert browser.run(shown) == []  # they are folded
        browser.one("#contents summary").click()
    assert sorted(browser.run(shown)) == sorted(everything)
    browser.one("#filter").send_keys("PATCH invoices")
    assert browser.run(shown) == ["#change_invoice"]
    assert browser.text("#found") == "1 request"
    browser.one("#contents a[href='#change_invoice']").click()
    in_sight(browser, "change_invoice")
    assert browser.run("return document.getElementById('contents').open") == (size == WIDE)  # on a phone they fold again


def test_the_reference_can_be_read_without_scripts(browser):
    browser.command("Emulation.setScriptExecutionDisabled", value=True)
    try:
        browser.open("/docs")
        browser.one("#purchase_product > summary").click()
        browser.shows("#purchase_product .members", "quantity")
        browser.one("label[for='python-purchase_product']").click()
        assert browser.text("#purchase_product .tabs pre").startswith("import json")
        assert not [found for found in browser.all("#login-form, form.try, #filter, #account") if found.is_displayed()]
    finally:
        browser.command("Emulation.setScriptExecutionDisabled", value=False)


def test_one_choice_of_a_language_holds_for_all_code(browser):
    browser.open("/docs#list_invoices")
    browser.one("label[for='python-list_invoices']").click()
    assert f'"{browser.base}/invoices?limit=3"' in browser.text("#list_invoices .tabs pre")
    browser.one("#contents a[href='#purchase_product']").click()
    assert browser.text("#purchase_product .tabs pre").startswith("import json")


def test_no_open_operation_is_higher_than_three_windows(browser):
    browser.open("/docs")
    heights = browser.run("""return [...document.querySelectorAll(".operation")].map((operation) => {
      operation.open = true;
      const found = [operation.offsetHeight, operation.id];
      operation.open = false;
      return found;
    })""")
    assert max(heights)[0] < 3 * WIDE[1]
    assert min(heights)[0] > 200  # they were open


@pytest.mark.parametrize(
    ("button", "email", "password", "said"),
    [
        ("log-in", "nobody@example.com", PASSWORD, "Email or password is wrong, or the account is disabled."),
        ("register", "known@example.com", "never this one", "Email or password is wrong, or the account is disabled."),
        ("register", EMAIL, "short", "The password must have 8 to 256 characters"),
        (
            "register",
            EMAIL,
            "password1",
            "The password is among the most common passwords, which are tried first: choose another",
        ),
        ("register", "ana@example", PASSWORD, "The email must be an email address such as ana@example.com"),
    ],
)
def test_the_login_says_why_it_did_not_work(browser, make, button, email, password, said):
    make.user("Known@example.com")
    browser.open("/docs")
    log_in(browser, button, email, password)
    browser.shows("#failed", said)
    assert browser.text("#who") == "Not logged in."
    assert not browser.one("#log-in").get_attribute("hidden")
    ink = "return getComputedStyle(document.getElementById(arguments[0])).color"
    assert browser.run(ink, "failed") != browser.run(ink, "rule")  # an error does not look like help
    wrong = browser.run("return [...document.querySelectorAll('[aria-invalid=true]')].map((field) => field.id)")
    assert wrong == ([said.split()[1]] if said.startswith("The ") else [])


def test_who_has_an_account_is_let_in_by_either_button_and_out_again(browser, make):
    make.user("known@example.com")
    browser.open("/docs")
    log_in(browser, "register", "known@example.com", PASSWORD)
    browser.shows("#who", "Logged in as known@example.com")
    assert not browser.one("#done").get_attribute("hidden")
    assert not [found for found in browser.all("#login-form, #log-in") if found.is_displayed()]
    browser.one("#log-out").click()
    browser.shows("#who", "Not logged in.")
    patiently(lambda: make.rows("SELECT end_reason FROM sessions WHERE ended_at IS NOT NULL") == [("logout",)])
    assert not [found for found in browser.all("#log-out, #done") if found.is_displayed()]
    log_in(browser, "log-in", "known@example.com", PASSWORD)
    browser.shows("#who", "Logged in as known@example.com")


def test_a_login_that_has_to_wait_says_how_long(browser, make):
    make.user(EMAIL)
    browser.open("/docs")

    def waits():
        log_in(browser, "log-in", EMAIL, "never this one")
        patiently(lambda: browser.run("return !busy"))
        return re.search(r"try again in [1-9]\d* s\.$", browser.text("#failed"))

    patiently(waits)


def test_a_login_that_ended_is_told(browser, make, service):
    browser.open("/docs")
    log_in(browser)
    browser.shows("#who", "Logged in as")
    assert try_out(browser, "get_profile")[0] == 200
    make.conn.execute("UPDATE sessions SET ended_at = now(), end_reason = 'logout'")
    logins.invalidate(service[0], 1)
    assert try_out(browser, "get_profile")[0] == 401
    browser.shows("#who", "The login of this access token has ended; log in again.")
    status, problem = try_out(browser, "get_profile")
    assert (status, problem["type"]) == (401, "/problems/unauthorized")  # the token is no longer sent


def test_a_token_that_expires_is_told_and_so_is_a_service_that_is_gone(make, with_settings, tmp_path):
    with with_settings(token_seconds=2) as (_, server), chromium(tmp_path, "http://{}:{}".format(*server.address)) as other:
        other.open("/docs")
        log_in(other)
        other.shows("#who", "The access token has expired: log in again.")
        server.stop()
        log_in(other, "log-in")
        other.shows("#failed", "The service does not answer. Is it still running?")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [WIDE, NARROW], ids=["wide", "narrow"])
@pytest.mark.parametrize("path", ["/", "/docs", "/problems", "/problems/credit-exceeds-invoice", "/nothing"])
def test_nothing_sticks_out_no_word_breaks_and_all_text_can_be_read(browser, path, size, scheme):
    browser.look(size, scheme)
    browser.open(path)
    if path == "/":
        browser.shows("#products", "2")
    if path == "/docs":
        log_in(browser, password="short")
        browser.shows("#failed", "The password must have")
        browser.run("for (const part of document.querySelectorAll('details')) part.open = true")
        assert press(browser, "#get_profile form")[0] == 401
    assert sticks_out(browser, size) == 0
    assert browser.run(_BROKEN) == []
    read = browser.run(_CONTRASTS)
    assert len(read) > (1000 if path == "/docs" else 10)
    assert [text for text in read if text[1] < 4.5] == []


# Words of which a part is on another line.
_BROKEN = """
const broken = [];
const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
const range = document.createRange();
while (walker.nextNode()) {
  const node = walker.currentNode;
  if (!node.parentElement.checkVisibility() || node.parentElement.closest("textarea, select, script")) continue;
  for (const word of node.data.matchAll(/\\w+/g)) {
    range.setStart(node, word.index);
    range.setEnd(node, word.index + word[0].length);
    if (new Set([...range.getClientRects()].map((line) => Math.round(line.top))).size > 1) broken.push(word[0]);
  }
}
return broken;
"""
# All text with its contrast to what is behind it (WCAG 2.2, 1.4.3), the hints in empty fields too.
_CONTRASTS = """
const channels = (colour) => colour.match(/[\\d.]+/g).map(Number);
const light = (colour) => {
  const [r, g, b] = channels(colour).map((c) => (c / 255 <= 0.04045 ? c / 255 / 12.92 : ((c / 255 + 0.055) / 1.055) ** 2.4));
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
};
const behind = (element) => {
  for (let e = element; e; e = e.parentElement) {
    const colour = getComputedStyle(e).backgroundColor;
    if (channels(colour)[3] !== 0) return colour;
  }
  return "rgb(255, 255, 255)";
};
const contrast = (colour, element) => {
  const [a, b] = [light(colour), light(behind(element))];
  return (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
};
const texts = [...document.querySelectorAll("body *:not(script, noscript)")]
  .filter((e) => e.checkVisibility() && [...e.childNodes].some((node) => node.nodeType === 3 && node.data.trim()))
  .map((e) => [e.textContent.trim().slice(0, 40), contrast(getComputedStyle(e).color, e)]);
const hints = [...document.querySelectorAll("[placeholder]")]
  .map((e) => [e.placeholder, contrast(getComputedStyle(e, "::placeholder").color, e)]);
return [...texts, ...hints];
"""


FETCH = """
const [url, headers, done] = arguments;
fetch(url, {headers}).then(async answer => done([answer.status, (await answer.json()).type]), error => done([0, String(error)]));
"""


class Page(BaseHTTPRequestHandler):
    """An empty page of another origin."""

    def do_GET(self):
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_):
        pass


@pytest.fixture
def elsewhere():
    """The origin of a page that is none of ours."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Page) as server:
        threading.Thread(target=server.serve_forever).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_a_page_of_an_allowed_origin_reads_why_the_server_refused_it(chrome, settings, elsewhere):
    with running(replace(settings, cors_origins=(elsewhere,))) as (_, server):
        host, port = server.address
        chrome.driver.get(elsewhere)
        for headers, told in (
            ({"Authorization": "Bearer x", "traceparent": "00-1", "Cache-Control": "no-cache"}, [401, "/problems/unauthorized"]),
            ({"Authorization": "Bearer " + "x" * 40_000}, [431, "/problems/headers-too-large"]),
        ):
            assert chrome.driver.execute_async_script(FETCH, f"http://{host}:{port}/me", headers) == told
