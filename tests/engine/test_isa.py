"""Reading gfx803 assembly, and holding it against promises."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from graphs import POLARIS, classifier

from rekindle.engine.isa import assembly
from rekindle.engine.isa.assembly import Counts, Figures, available, read
from rekindle.engine.isa.judgement import check, predict, waves
from rekindle.engine.isa.report import report
from rekindle.engine.kernels import Floor, Isa, Launch
from rekindle.graph import onnx_io, passes
from rekindle.runtime.providers.opencl import plan_for

# Two loops: 3 multiply-adds of 4 vector instructions with a detour that jumps back in from behind
# the epilogue, and an epilogue of 5 of 10.
ASSEMBLY = """
conv_1:                                 ; @conv_1
; %bb.0:
	s_load_dwordx4 s[0:3], s[6:7], 0x0
	v_mul_lo_u32 v1, v0, s0
.LBB0_1:                                ; =>This Inner Loop Header: Depth=1
	s_waitcnt lgkmcnt(0)
	flat_load_dwordx4 v[2:5], v[0:1]
	s_cbranch_scc0 .LBB0_4
.LBB0_2:
	v_mac_f32_e32 v6, s8, v2
	v_mac_f32_e32 v7, s8, v3
	v_mac_f32_e32 v8, s8, v4
	s_cmp_lt_i32 s0, s1
	s_cbranch_scc1 .LBB0_1
.LBB0_3:
	v_mac_f32_e32 v6, s8, v2
	v_mac_f32_e32 v6, s8, v2
	v_mac_f32_e32 v6, s8, v2
	v_mac_f32_e32 v6, s8, v2
	v_fma_f32 v6, v7, v8, v9
	v_mul_lo_u32 v1, v0, s0
	v_add_f32_e32 v1, v2, v3
	v_add_f32_e32 v1, v2, v3
	v_add_f32_e32 v1, v2, v3
	v_rcp_f32_e32 v1, v2
	s_cbranch_vccnz .LBB0_3
	s_endpgm
.LBB0_4:
	ds_read_b128 v[2:5], v0
	v_mac_f32_e32 v9, s8, v5
	v_add_f32_e32 v1, v2, v3
	s_branch .LBB0_2
.Lfunc_end0:
; codeLenInByte = 1684
; NumSgprs: 60
; NumVgprs: 49
; ScratchSize: 12
; LDSByteSize: 4096 bytes/workgroup (compile time only)
amdhsa.kernels:
    .max_flat_workgroup_size: 64
    .name:           conv_1
"""
LAUNCH = Launch("conv_lanes", "conv", (("TM", "8"),), (), (64 * 576, 1, 1), (64, 1, 1))


@pytest.fixture
def figures() -> Figures:
    (found,) = read(ASSEMBLY)
    return found


def test_registers_and_the_hot_loop_are_read(figures: Figures) -> None:
    assert (figures.vgpr, figures.sgpr, figures.lds_bytes) == (49, 60, 4096)
    assert (figures.scratch_bytes, figures.code_bytes, figures.work_group) == (12, 1684, 64)
    hot = figures.hot
    assert (hot.multiply_adds, hot.valu, hot.share) == (4, 5, 0.8)
    assert (hot.vector_bytes, hot.local_bytes) == (16, 16)
    assert hot.valu_clocks == 20
    assert (figures.fma, figures.multiplies) == (1, 1), "the multiply before the loops is free"


def test_waves_follow_registers_and_local_memory(figures: Figures) -> None:
    assert waves(figures, 64) == 4.0  # 49 registers: four; 16 groups of 4 KiB: four
    assert waves(replace(figures, vgpr=32, lds_bytes=0), 64) == 8.0
    assert waves(replace(figures, vgpr=129, lds_bytes=0), 64) == 1.0
    assert waves(replace(figures, vgpr=32, lds_bytes=32768), 64) == 0.5
    assert waves(replace(figures, vgpr=32, lds_bytes=32768), 256) == 2.0


def test_broken_promises_are_named(figures: Figures) -> None:
    found = dict(check(figures, LAUNCH, Isa(multiply_adds=0.94, waves=5)))
    assert set(found) == {"scratch", "fma", "multiplies", "waves", "share"}
    assert "12 bytes" in found["scratch"]
    assert "80.0%" in found["share"]


def test_what_is_not_promised_is_not_checked(figures: Figures) -> None:
    unkept = dict.fromkeys(("scratch", "fma", "multiplies"), "a reason")
    lower = {("TM", "8"): Floor(0.8, "why")}
    promise = Isa(multiply_adds=0.94, variants=lower, waves=4, unkept=unkept)
    assert not list(check(figures, LAUNCH, promise))
    wide = replace(LAUNCH, defines=(("TM", "16"),), local_size=(512, 1, 1))
    assert {rule for rule, _ in check(figures, wide, promise)} == {"share", "work-group"}


def test_prediction_is_bound_by_the_scarcest_resource(figures: Figures) -> None:
    """100 multiply-adds of 125 instructions at eight waves a SIMD of 36 x 4, all filled."""
    hot = Counts(130, 100, 125, 500, 4, 1, 0, 0, 600)
    plain = replace(figures, vgpr=24, lds_bytes=0, hot=hot)
    full = replace(LAUNCH, global_size=(64 * 144 * 8, 1, 1))
    assert predict(plain, full, POLARIS) == pytest.approx(0.85 * 400 / 500)
    by_cache = replace(plain, hot=replace(hot, vector_bytes=200))
    assert predict(by_cache, full, POLARIS) == pytest.approx(0.85 * 400 / 800)
    alone = replace(LAUNCH, global_size=(64, 1, 1))  # one wave on 144 SIMDs, its latency bare
    assert predict(plain, alone, POLARIS) == pytest.approx(0.85 / 144 * 400 / 600)


@pytest.mark.skipif(not available(), reason="clang-19 with libclc is not installed")
def test_a_network_is_compiled_without_a_device(tmp_path: Path) -> None:
    path = tmp_path / "classifier.onnx"
    path.write_bytes(classifier().SerializeToString())
    graph = passes.run(onnx_io.load(path), passes.PORTABLE)
    plan = plan_for(graph, POLARIS, {"x": (2, 3, 17, 19)})
    found = report(plan.launches())
    assert found.rows
    for launch in plan.launches():
        row = found.of(launch)
        assert row.figures.vgpr > 0
        assert row.figures.code_bytes > 0
        assert 0 <= found.share_of_peak(launch, POLARIS) <= 0.85
    assert not list(found.broken())


def test_without_the_compiler_it_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    from rekindle._errors import NotFoundError

    monkeypatch.setattr(assembly, "CLANG", "no-such-clang")
    assert not available()
    with pytest.raises(NotFoundError, match="no-such-clang"):
        report([LAUNCH])
