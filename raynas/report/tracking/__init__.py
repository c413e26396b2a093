"""Trackers: where a run's numbers go besides its folder, one project's client a file."""

from raynas.report.tracking.base import TRACKERS as TRACKERS
from raynas.report.tracking.base import Point as Point
from raynas.report.tracking.base import Tracker as Tracker
