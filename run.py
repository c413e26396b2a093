"""Search from a script: ``python run.py SPACE --algo …`` is ``raynas search SPACE --algo …``.

This is what a cluster runs; everything behind ``--`` reaches the search::

    ray submit cluster/config.yaml run.py -- mobilenet_v2_cifar --trials 1000
"""

import sys

from raynas.cli import main

if __name__ == "__main__":
    sys.exit(main(["search", *sys.argv[1:]]))
