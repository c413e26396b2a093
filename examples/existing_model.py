"""A model that exists, made smaller: a ResNet of timm on a folder of images, as far as ONNX."""

from pathlib import Path

from PIL import Image
from sklearn.datasets import load_digits

import raynas

digits = load_digits()
for at, (pixels, label) in enumerate(zip(digits.images[:600], digits.target[:600], strict=True)):
    place = Path("images", "train" if at < 500 else "val", str(label))
    place.mkdir(parents=True, exist_ok=True)
    Image.fromarray((pixels * 15).astype("uint8")).save(place / f"{at}.png")
elastic = {"width": [0.5, 0.75], "depth": True}
space = raynas.space("timm:resnet10t", elastic=elastic, num_classes=10, resolution=32)
profile = raynas.profile(space)
print(profile)
size = {"size": 32, "min_scale": 0.5}
# the whole network teaches the smaller ones from the first stage that shrinks
supernet = raynas.train_supernet(
    space, "progressive_shrinking", data="imagefolder:images", data_options=size, epochs=5
)
half = {"macs": (None, profile.archs[-1].metrics["macs"] / 2)}
result = raynas.search(supernet=supernet, constraints=half, trials=12)
trained = raynas.retrain(result, epochs=4)
print(trained.metrics)
trained.export("digits.onnx")
