"""A URL with several hosts and target_session_attrs=read-write: the service finds the server that can be written to."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest

from petstore import db
from petstore.db.connect_faults import connect_fault
from tests import standby
from tests.commands import environment
from tests.databases import open_folder
from tests.faults.busy import busy_shop, gap, refusals, sells
from tests.waiting import eventually

pytestmark = pytest.mark.slow


@pytest.fixture(params=[False, True], ids=["primary-first", "standby-first"])
def pair(request):
    with open_folder() as folder, standby.pair(folder) as servers:
        if request.param:
            servers.switch_over()
            servers.rejoin()
        yield servers


def switch_over(pair):
    pair.switch_over()


def freeze(pair):
    """The primary is silent, and stays so: nothing refuses a connection to it. The standby has all that was acknowledged."""
    pair.be_synchronous()
    pair.primary.freeze()
    pair.fail_over()


@pytest.mark.parametrize(("fail", "bound"), [(switch_over, 5), (freeze, 15)])
def test_the_service_sells_again_on_the_other_server(pair, redis_url, tmp_path, fail, bound):
    url, owner_url = pair.url("petstore_app"), pair.primary.url("postgres")
    with busy_shop(tmp_path, url, owner_url, redis_url, PETSTORE_THREADS="8") as shop:
        with shop.buyers() as buyers:
            eventually(lambda: len(buyers.bought) > 200, 30)
            assert buyers.faults() == []
            before = time.monotonic()
            fail(pair)
            shop.owner_url = pair.primary.url("postgres")
            sells(buyers, before + 0.5, bound)
            time.sleep(max(0, before + bound - time.monotonic()))
            whole = time.monotonic()
            eventually(lambda: buyers.answers[-1].started > whole + 1)
        assert [answer for answer in buyers.faults() if answer.started > whole] == []
        assert refusals(buyers.answers) == []
        print(f"{fail.__name__}: {buyers.longest()}; {len(buyers.faults())} × 503; {gap(buyers.answers):.1f} s without a sale")
        assert gap(buyers.answers) < bound
        shop.buy_again(buyers.bought)
        shop.check(buyers.bought, len(buyers.faults()))


def test_commands_and_psql_find_the_server_that_can_be_written_to(pair):
    environ = environment(PETSTORE_DATABASE_URL=pair.url("petstore_app"), PETSTORE_REDIS_URL="redis://127.0.0.1:1")
    commands = {
        ("psql", "-Atc", "SELECT pg_is_in_recovery()"): "f\n",
        ("sql", "products/list_products", "after=0", "limit=1"): "(0 rows)",
        ("housekeep", "--once"): "",  # it deletes, which a standby refuses
    }
    for _ in range(2):
        for words, printed in commands.items():
            command = [sys.executable, "-m", "petstore", *words]
            done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=60)
            assert (done.returncode, printed in done.stdout) == (0, True), done
        pair.switch_over()
        pair.rejoin()


def test_what_each_host_says_is_told(pair):
    url = pair.url("petstore_app")
    pair.primary.stop()
    with pytest.raises(db.Error) as error:
        db.connect(url)
    fault = connect_fault(error.value)
    assert sorted(fault.text.split("; ")) == [
        f'connection to server at "127.0.0.1", port {port} failed: {why}'
        for port, why in sorted([(pair.primary.port, "Connection refused"), (pair.standby.port, "session is read-only")])
    ]
    assert (fault.kind, fault.advice) == (
        "read-only",
        "none of the servers takes writes: start the primary, or promote a standby",
    )
