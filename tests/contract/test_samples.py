"""The code that /docs shows for every operation, run as it stands there: by a shell, by Python, and in a real Chromium."""

import re
import shutil
import subprocess
import sys
from html import unescape

import pytest

from petstore.web.pages import ORIGIN
from petstore.web.reference.samples import LANGUAGES, PLACEHOLDER
from tests.contract.test_browser import CHROMIUM, DRIVER, chrome  # noqa: F401
from tests.openapi_contract import DOCUMENT

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not shutil.which("curl"), reason="there is no curl: apt-get install curl"),
    pytest.mark.skipif(not (CHROMIUM and DRIVER), reason="there is no Chromium: apt-get install chromium chromium-driver"),
]
# Instead of a success: the code has the password, email or token of an example, or what it names is in another state by then.
OTHERWISE = {
    "register": {409},
    "login": {401},
    "refresh": {401},
    "change_password": {401, 422},
    "delete_account": {401, 422},
    "change_account": {409},
    "cancel_invoice": {409},
}
LAST = ("cancel_invoice", "delete_product")  # what they end, others need
ROUTE = {
    operation["operationId"]: (method.upper(), re.compile(re.sub("{.*?}", "[^/]+", path)), operation)
    for path, methods in DOCUMENT["paths"].items()
    for method, operation in methods.items()
}


def samples(page, language):
    """The code of every operation in a language, by operationId."""
    found = {}
    for section in page.split('<details class="operation" id="')[1:]:
        [code] = re.findall(f'<pre class="{language}" tabindex="0">(.*?)</pre>', section, re.DOTALL)
        found[section.partition('"')[0]] = unescape(code)
    return found


def in_shell(codes, browser):
    subprocess.run(["sh", "-c", "\n".join(f"(\n{code}\n) >/dev/null" for code in codes)], check=True, stderr=subprocess.DEVNULL)


def in_python(codes, browser):
    script = "import sys, urllib.error\n" + "\n".join(
        f"try:\n exec({code!r}, {{}})\nexcept urllib.error.HTTPError as error:\n error.close()" for code in codes
    )
    subprocess.run([sys.executable, "-c", script], check=True, stdout=subprocess.DEVNULL, timeout=60)


def in_chromium(codes, browser):
    browser.open("/problems")
    blocks = "\n".join(
        f"try {{ await (async () => {{ {code} }})(); }} catch (error) {{ failed.push(String(error)); }}" for code in codes
    )
    script = f"const failed = []; const done = arguments[0]; (async () => {{ {blocks} done(failed); }})()"
    assert browser.driver.execute_async_script(script) == []


RUN = {"curl": in_shell, "javascript": in_chromium, "python": in_python}


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_code_of_every_operation_does_what_the_operation_does(language, make, boss, admin, ana, chrome, caplog):  # noqa: F811
    make.invoice(boss.id, {make.product(stock=50): 2, make.product(stock=50): 1})
    codes = samples(admin.get("/docs").body.decode(), language)
    assert set(codes) == set(ROUTE)
    in_order = [codes[name] for name in sorted(codes, key=lambda name: name in LAST)]
    caplog.set_level("INFO", "petstore.access")
    RUN[language]([code.replace(ORIGIN, chrome.base).replace(PLACEHOLDER, admin.token) for code in in_order], chrome)
    logged = [record.args[:3] for record in caplog.records if record.name == "petstore.access"]
    for name, (method, path, operation) in ROUTE.items():
        statuses = {int(status) for sent, to, status in logged if sent == method and path.fullmatch(to)}
        success = OTHERWISE.get(name) or {int(status) for status in operation["responses"] if status < "400"}
        assert statuses, name
        assert statuses <= success, name
    keyed = [
        name for name, (*_, operation) in ROUTE.items() if "Idempotency-Key" in {one["name"] for one in operation["parameters"]}
    ]
    assert make.scalar("SELECT count(*)::int FROM idempotency_keys") == len(keyed) > 3  # each was sent with its key
