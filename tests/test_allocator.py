from __future__ import annotations

import platform

import pytest

from quickstudy.runs.allocator import keep_memory_mapped, kept_mapped


@pytest.mark.parametrize(
    ("version", "tunables", "finds_room"),
    [
        ("2.36", "", False),
        ("2.37", "glibc.malloc.tcache_count=08", False),
        ("2.36", "glibc.malloc.check=1:glibc.malloc.tcache_count=0", True),
        ("2.38", "", True),
        ("2.100", "", True),
    ],
)
def test_only_where_glibc_finds_room_for_huge_tensors_does_it_keep_them(
    version: str, tunables: str, finds_room: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(platform, "libc_ver", lambda: ("glibc", version))
    monkeypatch.setenv("GLIBC_TUNABLES", tunables)
    assert kept_mapped() == {
        **({"MMAP_MAX": 0} if finds_room else {"MMAP_THRESHOLD": 64 << 20}),
        "TRIM_THRESHOLD": -1,
        "TOP_PAD": 64 << 20,
    }


def test_the_allocator_is_left_alone_where_it_is_another_or_the_environment_says_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(platform, "libc_ver", lambda: ("", ""))  # as on macOS
    assert not keep_memory_mapped()
    monkeypatch.undo()
    monkeypatch.setenv("QUICKSTUDY_ALLOCATOR", "system")
    assert not keep_memory_mapped()
