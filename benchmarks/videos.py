"""Five key frames of a long film, against plain loops that decode all of it: `python -m benchmarks.videos [--minutes 10] [--rate 30]`.

The film is made on the spot: 1920 x 1080, H.264, a gradient that moves under grain, a key frame every 250 frames as x264 sets them by
itself. Each way runs in a process of its own, which tells its seconds and the most memory that it held. The plain loop that keeps every
picture and then picks is not run: its memory is printed as what it would be.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import numpy as np
from PIL import Image

sys.path.insert(0, str(Path(__file__).parent.parent))

from pipeline.core.progress import track
from pipeline.videos import key_frames

WIDTH, HEIGHT, GOP, COUNT = 1920, 1080, 250, 5


def make_film(path: Path, frames: int, rate: int) -> None:
    """A gradient that moves by two pixels a frame, and grain that changes with each, so that there is something to decode."""
    wide = np.tile(np.abs(np.linspace(-180, 180, WIDTH)).astype(np.uint8) + 36, (HEIGHT, 2))
    grain = np.random.default_rng(0).integers(0, 5, (8, HEIGHT, WIDTH), dtype=np.uint8)
    planes = np.full((HEIGHT * 3 // 2, WIDTH), 128, np.uint8)
    with av.open(str(path), "w", options={"movflags": "+faststart"}) as container:
        stream: Any = container.add_stream("libx264", rate=rate, options={"preset": "ultrafast", "g": str(GOP)})
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        for number in track(range(frames), "film", frames, "frames"):
            shift = 2 * number % WIDTH
            planes[:HEIGHT] = wide[:, shift : shift + WIDTH] + grain[number % len(grain)]
            container.mux(stream.encode(av.VideoFrame.from_ndarray(planes, format="yuv420p")))
        container.mux(stream.encode())


def repack(film: Path, path: Path) -> None:
    """The same pictures in a container without an index."""
    with av.open(str(film)) as source, av.open(str(path), "w") as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                target.mux(packet)


def decode_all(film: Path, convert_all: bool) -> list[Image.Image]:
    """Every frame decoded, each made a picture or only those wanted; the header is trusted for how many there are."""
    with av.open(str(film)) as container:
        stream = container.streams.video[0]
        stream.thread_type = "AUTO"
        wanted = {i * stream.frames // COUNT for i in range(COUNT)}
        kept = []
        for number, frame in enumerate(container.decode(stream)):
            picture = frame.to_image() if convert_all or number in wanted else None
            if picture and number in wanted:
                kept.append(picture)
        return kept


WAYS: dict[str, Callable[[Path], list[Image.Image]]] = {
    "`key_frames`": lambda film: key_frames(film, COUNT),
    "`key_frames`, the same film in MPEG-TS, which has no index": lambda film: key_frames(film.with_suffix(".ts"), COUNT),
    "decode all, five made pictures": lambda film: decode_all(film, convert_all=False),
    "decode all, each made a picture, five kept": lambda film: decode_all(film, convert_all=True),
}


def measure(way: str, film: Path) -> None:
    """Print seconds, the most memory held in MiB, and what tells whether two ways show the same."""
    begun = time.perf_counter()
    pictures = WAYS[way](film)
    seconds = time.perf_counter() - begun
    held = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
    print(json.dumps([seconds, held, [int(np.asarray(picture).astype(np.int64).sum()) for picture in pictures]]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--rate", type=int, default=30, help="frames a second")
    parser.add_argument("--measure", nargs=2, metavar=("WAY", "FILM"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        measure(arguments.measure[0], Path(arguments.measure[1]))
        return
    frames = round(arguments.minutes * 60 * arguments.rate)
    shown = set()
    with tempfile.TemporaryDirectory() as folder:
        film = Path(folder) / "film.mp4"
        make_film(film, frames, arguments.rate)
        repack(film, film.with_suffix(".ts"))
        print(f"{arguments.minutes:g} minutes of {WIDTH} x {HEIGHT} at {arguments.rate} frames a second: {frames:,} frames, "
              f"{film.stat().st_size / 2**20:.0f} MiB, a key frame every {GOP}; {COUNT} key frames\n")
        print("| way | seconds | frames of the film a second | most memory held |\n|---|---|---|---|")
        for way in WAYS:
            said = subprocess.run([sys.executable, __file__, "--measure", way, str(film)], check=True, stdout=subprocess.PIPE)
            seconds, held, sums = json.loads(said.stdout)
            shown.add(tuple(sums))
            print(f"| {way} | {seconds:.2f} | {frames / seconds:,.0f} | {held:,.0f} MiB |", flush=True)
    print(f"| decode all, every picture kept | not run | | {frames * WIDTH * HEIGHT * 3 / 2**20:,.0f} MiB (computed) |")
    assert len(shown) == 1, "the ways show different frames"


if __name__ == "__main__":
    main()
