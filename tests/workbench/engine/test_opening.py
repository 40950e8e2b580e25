"""Addresses of engines: which are known, and which are refused."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

import workbench as wb
from workbench.engine.certificates import Certificates, make_certificates
from workbench.engine.local import LocalProcesses
from workbench.engine.opening import CERTS, check_engine, is_loopback, open_engine, read_address


@pytest.fixture(scope="module")
def certs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("certs")
    make_certificates(folder)
    return folder


def test_local_processes_are_counted() -> None:
    assert read_address("local").workers == len(os.sched_getaffinity(0))
    assert read_address(" local:3 ").workers == 3
    with open_engine("local:3") as engine:
        assert isinstance(engine, LocalProcesses)
        assert engine.workers == 3


@pytest.mark.parametrize(
    ("address", "scheduler"),
    [
        ("dask://127.0.0.1:8786", "tcp://127.0.0.1:8786"),
        ("tcp://localhost:8786", "tcp://localhost:8786"),
        ("dask://[::1]:8786", "tcp://[::1]:8786"),
        ("dask://10.0.0.5:8786?insecure_plain_text=yes", "tcp://10.0.0.5:8786"),
    ],
)
def test_a_scheduler_on_this_machine_or_asked_for_in_words(address: str, scheduler: str) -> None:
    assert read_address(address).scheduler == scheduler


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("", "is not the address of an engine"),
        ("ray://localhost:1", "is not the address of an engine\nGive 'local'"),
        ("dask://localhost", "is not the address of an engine"),
        ("dask://localhost:x", "is not the address of an engine"),
        ("dask://localhost:99999999", "is not the address of an engine"),
        ("dask://localhost:1/path", "is not the address of an engine"),
        ("local:0", "must be 1 to 256, got 0"),
        ("local:257", "must be 1 to 256, got 257"),
        ("dask://10.0.0.5:8786", "without TLS anybody on the way could run code on both"),
        ("tcp://cluster.example.org:8786", "without TLS"),
        ("dask://10.0.0.5:8786?insecure_plain_text=no", "without TLS"),
        ("dask://10.0.0.5:8786?insecure_plain_text=maybe", "must be yes or no"),
        ("dask://localhost:1?insecure=yes", "unknown option 'insecure'"),
        ("dask://localhost:1?certs=x", "certs is for tls://"),
        ("tls://localhost:1", "no certificates\nAdd \\?certs=DIR"),
        ("tls://localhost:1?certs=/nowhere", "no such file"),
        ("tls://localhost:1?key=/nowhere", "give certs, or all three of authority, certificate, key"),
        ("tls://localhost:1?certs=x&insecure_plain_text=yes", "is for dask://"),
    ],
)
def test_other_addresses_are_refused_in_words(
    address: str, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(CERTS, raising=False)
    with pytest.raises(wb.BadInput, match=words):
        read_address(address)


def test_certificates_come_from_a_folder_from_files_or_from_the_environment(
    certs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pair = Certificates.in_folder(certs)
    assert read_address(f"tls://10.0.0.5:8786?certs={certs}").certificates == pair
    files = f"authority={pair.authority}&certificate={pair.certificate}&key={pair.key}"
    assert read_address(f"tls://10.0.0.5:8786?{files}").certificates == pair
    monkeypatch.setenv(CERTS, str(certs))
    assert read_address("tls://10.0.0.5:8786").certificates == pair


def test_no_engine_is_no_mistake() -> None:
    check_engine("")
    with pytest.raises(wb.BadInput):
        check_engine("nowhere")


@pytest.mark.parametrize(
    ("host", "here"),
    [("localhost", True), ("127.8.9.1", True), ("::1", True), ("0.0.0.0", False), ("example.org", False)],  # noqa: S104
)
def test_this_machine_is_known(host: str, here: bool) -> None:
    assert is_loopback(host) is here


def test_without_dask_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(wb.MissingExtra, match=r"notebook-workbench\[dask\]"):
        open_engine("dask://localhost:8786")


def test_what_is_no_client_is_refused() -> None:
    with pytest.raises(wb.BadInput, match=r"an engine is an address or a dask\.distributed\.Client, got int"):
        open_engine(3)  # type: ignore[arg-type]
