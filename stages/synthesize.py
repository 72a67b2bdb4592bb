"""Draw the captions of one corpus."""

from pipeline.core.device import choose_device
from pipeline.core.params import check, load, pick
from pipeline.features.encoders import load_clip
from pipeline.features.tagging import DetectorParams, load_detector
from pipeline.synthetic.drawing import SynthesisParams, load_generator, synthesize
from stages import run


def draw(corpus: str) -> None:
    """Write data/synthetic/CORPUS/pairs."""
    params, device = load(), choose_device()
    synthesis = check(SynthesisParams, pick(params, "synthesis"), "synthesis")
    detector = load_detector(check(DetectorParams, pick(params, "detector"), "detector"), device)
    clips = {name: load_clip(name, params, device) for name in synthesis.clips}
    synthesize(corpus, load_generator(synthesis, device), detector, clips)


if __name__ == "__main__":
    run(draw)
