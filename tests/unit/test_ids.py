from __future__ import annotations

import contextvars
import gc
import os
import random
import sys
import threading
import weakref
from types import ModuleType

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.trace import format_trace_id

from spanwell import ids, incoming
from spanwell.ids import XRayIdGenerator


class Zeros(random.Random):
    def getrandbits(self, k):
        return 0


def test_a_trace_id_starts_with_the_epoch_second():
    generator = XRayIdGenerator(clock=lambda: 0x5759E988 + 0.9)
    found = {generator.generate_trace_id() for _ in range(100)}
    assert len(found) == 100
    assert {format_trace_id(one)[:8] for one in found} == {"5759e988"}
    assert all(one < 2**128 for one in found)


def test_after_2106_the_second_wraps_into_its_32_bits():
    assert XRayIdGenerator(clock=lambda: 2.0**32 + 5).generate_trace_id() >> 96 == 5


def test_ids_are_never_zero():
    generator = XRayIdGenerator(clock=lambda: 0.0, random=Zeros())
    assert generator.generate_trace_id() > 0
    assert generator.generate_span_id() > 0


def test_the_application_seeding_the_global_random_changes_nothing():
    found = set()
    for _ in range(2):
        random.seed(0)
        generator = XRayIdGenerator(clock=lambda: 1.0)
        found |= {generator.generate_trace_id(), generator.generate_span_id()}
    assert len(found) == 4


def test_the_applications_random_sequence_is_not_disturbed():
    random.seed(0)
    expected = [random.random() for _ in range(3)]
    random.seed(0)
    generator = XRayIdGenerator()
    seen = []
    for _ in range(3):
        generator.generate_trace_id()
        generator.generate_span_id()
        ids.reseed()
        seen.append(random.random())
    assert seen == expected


def test_the_expected_root_is_used_once():
    def run():
        generator = XRayIdGenerator(clock=lambda: 9.0, monotonic=lambda: 3.0)
        incoming.expect_root(7, now=3.0)
        return generator.generate_trace_id(), generator.generate_trace_id() >> 96

    assert contextvars.Context().run(run) == (7, 9)


def test_the_random_flag_is_on_the_span_and_its_children():
    tracer = TracerProvider(id_generator=XRayIdGenerator(), shutdown_on_exit=False).get_tracer("t")
    with (
        tracer.start_as_current_span("root") as root,
        tracer.start_as_current_span("child") as child,
    ):
        assert root.get_span_context().trace_flags == 3
        assert child.get_span_context().trace_flags == 3


def test_threads_never_share_an_id():
    generator = XRayIdGenerator(clock=lambda: 1.0)
    lists: list[list[int]] = [[] for _ in range(8)]
    barrier = threading.Barrier(8)

    def work(out):
        barrier.wait()
        for _ in range(2000):
            out.append(generator.generate_trace_id())
            out.append(generator.generate_span_id())

    threads = [threading.Thread(target=work, args=(out,)) for out in lists]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({one for out in lists for one in out}) == 8 * 4000


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this platform")
def test_forked_children_never_share_an_id():
    generator = XRayIdGenerator(clock=lambda: 1.0)
    readers = []
    for _ in range(4):
        read, write = os.pipe()
        pid = os.fork()
        if pid == 0:
            made = [str(generator.generate_trace_id()), str(generator.generate_span_id())]
            os.write(write, " ".join(made).encode())
            os._exit(0)
        os.close(write)
        readers.append((pid, read))
    found = [str(generator.generate_trace_id()), str(generator.generate_span_id())]
    for pid, read in readers:
        with os.fdopen(read) as pipe:
            found += pipe.read().split()
        assert os.waitpid(pid, 0)[1] == 0
    assert len(found) == len(set(found)) == 10


def test_reseeding_starts_another_sequence():
    same = random.Random(1)
    generator = XRayIdGenerator(clock=lambda: 1.0, random=same)
    expected = random.Random(1).getrandbits(64)
    assert generator.generate_span_id() == expected
    same.seed(1)
    ids.reseed()
    assert generator.generate_span_id() != expected


def test_the_fork_hook_keeps_no_generator_alive():
    generator = XRayIdGenerator()
    watch = weakref.ref(generator)
    del generator
    gc.collect()
    assert watch() is None


def test_a_restored_lambda_snapshot_reseeds(monkeypatch):
    registered = []
    hooks = ModuleType("snapshot_restore_py")
    hooks.register_after_restore = registered.append
    monkeypatch.setitem(sys.modules, "awslambdaric", ModuleType("awslambdaric"))
    monkeypatch.setitem(sys.modules, "snapshot_restore_py", hooks)
    monkeypatch.setattr(ids, "_restore_hooked", False)
    same = random.Random(1)
    generator = XRayIdGenerator(random=same)
    XRayIdGenerator()
    assert len(registered) == 1
    frozen = same.getstate()
    registered[0]()
    first = generator.generate_span_id()
    same.setstate(frozen)
    registered[0]()
    assert generator.generate_span_id() != first


def test_lambda_without_restore_hooks_is_fine(monkeypatch):
    monkeypatch.setitem(sys.modules, "awslambdaric", ModuleType("awslambdaric"))
    monkeypatch.setitem(sys.modules, "snapshot_restore_py", None)
    monkeypatch.setattr(ids, "_restore_hooked", False)
    assert XRayIdGenerator().generate_span_id() > 0
