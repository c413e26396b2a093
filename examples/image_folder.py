"""A folder of images from end to end: search under a bound on MACs, retrain, write ONNX."""

import tempfile
from pathlib import Path

from PIL import Image
from sklearn.datasets import load_digits

import raynas

folder = Path(tempfile.mkdtemp())
digits = load_digits()
for at, (pixels, label) in enumerate(zip(digits.images[:500], digits.target[:500], strict=True)):
    (folder / str(label)).mkdir(exist_ok=True)
    Image.fromarray((pixels * 15).astype("uint8")).save(folder / str(label) / f"{at}.png")
result = raynas.search(
    "mobilenet_v2_cifar",
    data=f"imagefolder:{folder}",
    data_options={"size": 16},
    space_options={"width": 0.25},
    constraints=["macs<0.8e6"],
    epochs=2,
    trials=3,
)
trained = raynas.retrain(result, epochs=4)
print(trained.metrics)
trained.export(folder / "digits.onnx")
