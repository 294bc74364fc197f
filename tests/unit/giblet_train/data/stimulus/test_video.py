"""Frames taken by absolute time, and the features computed from them."""

from fractions import Fraction
from types import SimpleNamespace

import av
import numpy as np
import pytest

from giblet_train.data.simulation.generated_film import generated_film
from giblet_train.data.stimulus import video
from giblet_train.data.stimulus.video import (
    SCALING,
    feature_names,
    film_seconds,
    film_stream,
    read_frames,
    video_features,
)
from giblet_train.schema.errors import DataError

FPS = 24
N_FRAMES = 240


def film(path, pictures, codec="libx264", **options):
    """Return a film of 48 by 64 pixels whose frame n is pictures(n)."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=FPS, options=options)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for n in range(N_FRAMES):
            frame = av.VideoFrame.from_ndarray(pictures(n), format="rgb24")
            frame.pts, frame.time_base = n, Fraction(1, FPS)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def noise(n):
    coarse = np.random.default_rng(n).integers(0, 255, (6, 8, 3), dtype=np.uint8)
    return coarse.repeat(8, axis=0).repeat(8, axis=1)


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    """Write ten seconds of H.264 with frames that no other frame needs."""
    return film(tmp_path_factory.mktemp("clip") / "clip.mp4", noise, bf="3", preset="veryfast", qp="12")


def decoded(path, height, width):
    """Return every frame with its time, decoded one after another."""
    with av.open(str(path)) as container:
        return [
            (f.time - container.start_time / 1e6,
             f.to_ndarray(format="rgb24", width=width, height=height, interpolation=SCALING))
            for f in container.decode(video=0)
        ]  # fmt: skip


@pytest.mark.parametrize(
    ("tr_s", "fps", "start_s", "n_trs"), [(1.5, 2.0, 0.0, 6), (0.7, 10.0, 1.37, 12), (2.0, 0.3, 0.5, 4)]
)
def test_each_frame_is_the_one_on_screen_at_its_moment(clip, tr_s, fps, start_s, n_trs):
    frames = read_frames(clip, tr_s, n_trs, fps, 12, 16, start_s)
    per_tr = max(1, round(fps * tr_s))
    assert frames.shape == (n_trs, per_tr, 12, 16, 3)
    every = decoded(clip, 12, 16)
    times_s = np.array([time_s for time_s, _ in every])
    for t in range(n_trs):
        for k in range(per_tr):
            moment_s = start_s + (t + (k + 0.5) / per_tr) * tr_s
            on_screen = np.flatnonzero(times_s <= moment_s + 1e-3)[-1]
            assert (frames[t, k] == every[on_screen][1]).all(), (t, k)


def slide_show(path, stamps_s, codec="libx264"):
    """Return a film whose picture n appears at stamps_s[n] and stays until the next one."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=1000, options={"bf": "0", "qp": "4"})
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.codec_context.time_base = Fraction(1, 1000)
        for n, stamp_s in enumerate(stamps_s):
            frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), 12 * n + 10, np.uint8), format="rgb24")
            frame.pts, frame.time_base = round(stamp_s * 1000), Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


@pytest.mark.parametrize("container", ["mp4", "mkv"])
@pytest.mark.parametrize("stamps_s", [np.arange(0, 40, 3.0), np.r_[0:10:0.5, 10:30:2.5, 30:40:1.25]])
def test_at_a_variable_frame_rate_a_picture_stays_until_the_next_one_appears(tmp_path, container, stamps_s):
    stamps_s = np.asarray(stamps_s)[:19]
    path = slide_show(tmp_path / f"slides.{container}", stamps_s)
    n_trs = int(stamps_s[-1] // 1.5)
    frames = read_frames(path, 1.5, n_trs, 2.0, 6, 8)
    moments_s = (np.arange(3 * n_trs) + 0.5) * 0.5
    expected = [12 * np.flatnonzero(stamps_s <= moment_s)[-1] + 10 for moment_s in moments_s]
    np.testing.assert_allclose(frames.reshape(3 * n_trs, -1).mean(axis=1), expected, atol=3)


def with_rotation(path, out, degrees):
    """Return the film with a display matrix that tells players to turn it counterclockwise."""
    data = bytearray(path.read_bytes())
    at = data.index(b"tkhd") + 4 + 40
    turn = np.deg2rad(-degrees)
    cos, sin = round(np.cos(turn)) << 16, round(np.sin(turn)) << 16
    matrix = np.array([cos, sin, 0, -sin, cos, 0, 0, 0, 1 << 30], ">i4")
    data[at : at + 36] = matrix.tobytes()
    out.write_bytes(data)
    return out


@pytest.mark.parametrize("degrees", [90, 180, 270])
def test_a_film_with_rotation_metadata_is_read_as_players_show_it(clip, tmp_path, degrees):
    rotated_film = with_rotation(clip, tmp_path / "turned.mp4", degrees)
    height, width = (16, 12) if degrees in (90, 270) else (12, 16)
    frames = read_frames(rotated_film, 1.5, 4, 2.0, height, width)
    upright = read_frames(clip, 1.5, 4, 2.0, 12, 16)
    expected = np.rot90(upright, degrees // 90, axes=(2, 3))
    assert np.abs(frames.astype(int) - expected).mean() < 3


def test_a_cover_picture_is_skipped(clip, tmp_path):
    path = tmp_path / "covered.mp4"
    with av.open(str(clip)) as source, av.open(str(path), "w") as out:
        cover = out.add_stream("mjpeg", rate=1)
        cover.width, cover.height, cover.pix_fmt = 64, 48, "yuvj420p"
        cover.disposition = av.stream.Disposition.attached_pic
        video_out = out.add_stream_from_template(source.streams.video[0])
        picture = av.VideoFrame.from_ndarray(np.zeros((48, 64, 3), np.uint8), format="rgb24").reformat(
            format="yuvj420p"
        )
        out.mux(cover.encode(picture))
        out.mux(cover.encode(None))
        for packet in source.demux(source.streams.video[0]):
            if packet.dts is not None:
                packet.stream = video_out
                out.mux(packet)
    with av.open(str(path)) as container:
        cover, moving = sorted(container.streams.video, key=lambda s: s.codec_context.name != "mjpeg")
        first = SimpleNamespace(streams=SimpleNamespace(video=[cover, moving]))
        assert film_stream(first, path) is moving
    assert film_seconds(path) == pytest.approx(10.0, abs=0.05)
    np.testing.assert_array_equal(read_frames(path, 1.5, 6, 2.0, 12, 16), read_frames(clip, 1.5, 6, 2.0, 12, 16))


def test_decoding_ends_with_the_last_wanted_frame(clip, monkeypatch):
    ends = []

    def watched(path, times_s, decode=video._decoded):
        yield from decode(path, times_s)
        ends.append(path)

    monkeypatch.setattr(video, "_decoded", watched)
    read_frames(clip, 1.5, 2, 2.0, 12, 16)
    assert not ends


def test_without_a_count_all_whole_trs_are_read(clip):
    assert film_seconds(clip) == pytest.approx(10.0, abs=0.05)
    assert len(read_frames(clip, 1.5, None, 2.0, 12, 16)) == 6
    assert len(read_frames(clip, 1.5, None, 2.0, 12, 16, start_s=1.2)) == 5


def test_a_frame_is_averaged_over_areas(tmp_path):
    frames = read_frames(film(tmp_path / "a.mp4", noise, qp="2"), 1.0, 4, 1.0, 6, 8)
    for t in range(4):
        n = int((t + 0.5) * FPS)
        error = frames[t, 0] - noise(n).reshape(6, 8, 8, 8, 3).mean(axis=(1, 3))
        assert np.abs(error).mean() < 10.0
        assert np.abs(error @ np.array((0.299, 0.587, 0.114))).mean() < 3.0


def test_times_count_from_the_start_of_the_file(clip, tmp_path):
    with av.open(str(clip)) as source, av.open(str(tmp_path / "a.ts"), "w") as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.dts is not None:
                packet.pts, packet.dts = (stamp + round(7 / packet.time_base) for stamp in (packet.pts, packet.dts))
                packet.stream = stream
                target.mux(packet)
    with av.open(str(tmp_path / "a.ts")) as container:
        assert container.start_time >= 7_000_000
    assert (read_frames(tmp_path / "a.ts", 1.5, 6, 2.0, 12, 16) == read_frames(clip, 1.5, 6, 2.0, 12, 16)).all()


def test_a_film_that_is_too_short_is_refused_with_both_lengths(clip):
    with pytest.raises(DataError, match=r"lasts 10\.0 s, but 12\.0 s from 0\.0 s on are needed"):
        read_frames(clip, 1.5, 8, 2.0, 12, 16)
    with pytest.raises(DataError, match=r"lasts 10\.0 s, but 9\.0 s from 2\.0 s on are needed"):
        read_frames(clip, 1.5, 6, 2.0, 12, 16, start_s=2.0)
    with pytest.raises(DataError, match=r"from -3\.0 s on are needed"):
        read_frames(clip, 1.5, 2, 2.0, 12, 16, start_s=-3.0)


def test_files_that_are_no_film_are_refused_in_words(clip, tmp_path):
    with pytest.raises(DataError, match="cannot be decoded as a film: No such file"):
        film_seconds(tmp_path / "none.mp4")
    (tmp_path / "text.mp4").write_text("not a film at all")
    with pytest.raises(DataError, match="cannot be decoded as a film: Invalid data"):
        read_frames(tmp_path / "text.mp4", 1.5, 1, 2.0, 12, 16)


def test_a_film_that_breaks_off_is_refused(tmp_path):
    whole = film(tmp_path / "a.mp4", noise, movflags="faststart", qp="20")
    with (
        av.open(str(whole)) as source,
        av.open(str(tmp_path / "b.mp4"), "w", options={"movflags": "faststart"}) as target,
    ):
        stream = target.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                target.mux(packet)
    data = (tmp_path / "b.mp4").read_bytes()
    (tmp_path / "b.mp4").write_bytes(data[: len(data) // 2])
    with pytest.raises(DataError, match=r"breaks off at \d\.\d s of its 10\.0 s|frames cannot be decoded"):
        read_frames(tmp_path / "b.mp4", 1.5, 6, 2.0, 12, 16)


def column(features_TF, name):
    return features_TF[:, feature_names().index(name)]


def still(picture_HWC, n_trs=3):
    return np.broadcast_to(picture_HWC, (n_trs, 2, *picture_HWC.shape)).astype(np.uint8)


def test_there_is_a_finite_number_for_every_name(tmp_path):
    film = generated_film(tmp_path / "film.mp4", 30.0, seed=1)
    features_TF = video_features(read_frames(film.path, 1.5, 20, 2.0, 36, 64))
    assert features_TF.shape == (20, len(feature_names()))
    assert features_TF.dtype == np.float32
    assert len(set(feature_names())) == len(feature_names())
    assert np.isfinite(features_TF).all()
    assert (features_TF.std(axis=0) > 0).all()


def test_plain_pictures_have_the_numbers_one_expects():
    grey = video_features(still(np.full((36, 64, 3), 102)))
    assert column(grey, "luminance") == pytest.approx(0.4)
    assert column(grey, "luminance_1_2") == pytest.approx(0.4)
    for name in ("contrast", "motion", "saturation", "red_green", "blue_yellow", "motion_0_0", "vertical_edges_0_0"):
        assert column(grey, name) == pytest.approx(0.0, abs=1e-3), name
    red = video_features(still(np.full((36, 64, 3), (255, 0, 0))))
    assert column(red, "red_green") == pytest.approx(1.0)
    assert column(red, "blue_yellow") == pytest.approx(-0.5)
    assert column(red, "saturation_2_3") == pytest.approx(1.0)


@pytest.mark.parametrize("orientation", ["vertical", "horizontal", "rising", "falling"])
def test_bars_have_the_edges_of_their_orientation(orientation):
    rows, columns = np.mgrid[0:36, 0:64]
    across = {"vertical": columns, "horizontal": rows, "rising": rows + columns, "falling": rows - columns}[orientation]
    bars = (127.5 + 127.5 * np.sin(across * 2 * np.pi / 12)).astype(np.uint8)[..., None].repeat(3, axis=2)
    features_TF = video_features(still(bars))
    energy = {o: column(features_TF, f"{o}_edges_1_2").mean() for o in ("vertical", "horizontal", "rising", "falling")}
    assert max(energy, key=energy.get) == orientation
    assert sorted(energy.values())[-2] < 0.2 * energy[orientation]


def test_motion_is_the_change_since_the_frame_before_across_all_chunks():
    frames_TKHWC = np.random.default_rng(0).integers(0, 255, (70, 2, 12, 16, 3), dtype=np.uint8)
    luma = (frames_TKHWC.reshape(140, 12, 16, 3) / 255.0) @ np.array((0.299, 0.587, 0.114))
    change = np.abs(np.diff(luma, axis=0, prepend=luma[:1])).mean(axis=(1, 2)).reshape(70, 2).mean(axis=1)
    assert column(video_features(frames_TKHWC), "motion") == pytest.approx(change, rel=1e-4)
