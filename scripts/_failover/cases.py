"""The fail-overs. Each is given the servers, and returns when it is done. The buyers go on before, meanwhile and after."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import patroni

from tests import standby


class Servers(Protocol):
    """A cluster of two. app_url: for the service; owner_url: a superuser on the server that is the primary now."""

    @property
    def app_url(self) -> str: ...

    @property
    def owner_url(self) -> str: ...


@dataclass
class Streaming:
    """A primary and its streaming standby, which somebody promotes by hand; the service has the addresses of both."""

    pair: standby.Pair

    @property
    def app_url(self) -> str:
        return self.pair.url("petstore_app")

    @property
    def owner_url(self) -> str:
        return self.pair.primary.url("postgres")


@dataclass(frozen=True)
class Case:
    """servers: starts them in a folder. act: breaks them. lossy: acknowledged purchases may be lost. missing: what it lacks."""

    title: str
    servers: Callable[[Path], AbstractContextManager[Any]]
    act: Callable[[Any], None]
    lossy: bool = False
    missing: Callable[[], str] = str


@contextmanager
def streaming(folder: Path, synchronous: bool = False) -> Iterator[Streaming]:
    with standby.pair(folder, synchronous=synchronous) as pair:
        yield Streaming(pair)


synchronous = partial(streaming, synchronous=True)


def kill(servers: Streaming) -> None:
    servers.pair.primary.kill()
    time.sleep(2)
    servers.pair.primary.start()


def freeze(servers: Streaming) -> None:
    servers.pair.primary.freeze()
    time.sleep(8)
    servers.pair.primary.thaw()


def switch_over(servers: Streaming) -> None:
    servers.pair.switch_over()


def promote_beside_frozen(servers: Streaming) -> None:
    servers.pair.primary.freeze()
    time.sleep(1)
    servers.pair.fail_over()


def promote_lagging(servers: Streaming) -> None:
    """The standby has received nothing for 2 s when the primary dies."""
    servers.pair.standby.hold_receiving()
    time.sleep(2)
    servers.pair.primary.kill()
    servers.pair.fail_over()


def stall(servers: Streaming) -> None:
    servers.pair.standby.freeze()
    time.sleep(12)
    servers.pair.standby.thaw()


def stall_and_restart(servers: Streaming) -> None:
    servers.pair.standby.freeze()
    time.sleep(6)
    servers.pair.primary.kill()
    servers.pair.primary.start()
    time.sleep(6)
    servers.pair.standby.thaw()


CASES = {
    "kill": Case("PostgreSQL is killed (`kill -9`), and started after 2 s", streaming, kill),
    "freeze": Case("PostgreSQL stands still for 8 s (SIGSTOP)", streaming, freeze),
    "switchover": Case("switchover: the primary is stopped, the standby promoted", streaming, switch_over),
    "promote": Case(
        "the primary stands still, its synchronous standby is promoted after 1 s", synchronous, promote_beside_frozen
    ),
    "lagging": Case("the primary is killed, a standby that is 2 s behind is promoted", streaming, promote_lagging, lossy=True),
    "stalled": Case("the synchronous standby stands still for 12 s", synchronous, stall),
    "stalled-restart": Case("the same, and the primary is killed and started meanwhile", synchronous, stall_and_restart),
    "patroni-switchover": Case(
        "Patroni, etcd and HAProxy: switchover", patroni.running, patroni.switch_over, missing=patroni.missing
    ),
    "patroni-kill": Case("the same: the primary's node is killed", patroni.running, patroni.kill_node, missing=patroni.missing),
    "patroni-freeze": Case(
        "the same: the primary's node stands still", patroni.running, patroni.freeze_node, missing=patroni.missing
    ),
}
