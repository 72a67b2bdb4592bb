"""Caption the test images of every setting with one system."""

from pipeline.captioning import caption_settings
from pipeline.core.device import choose_device
from pipeline.core.params import load
from pipeline.systems import find_system
from stages import run


def caption(system: str) -> None:
    """Write data/captions/SYSTEM."""
    params = load()
    caption_settings(system, find_system(system, params), params, choose_device())


if __name__ == "__main__":
    run(caption)
