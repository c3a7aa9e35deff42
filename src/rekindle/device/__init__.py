"""What this machine can compute on: OpenCL devices, the architecture table, the set-up's health.

Importing this loads no OpenCL; the first question to a driver does.
"""

from rekindle.device.architectures import Architecture, architecture, architectures, target_from
from rekindle.device.capability import Device, Platform
from rekindle.device.discovery import list_devices, list_platforms
from rekindle.device.matching import Match, match
from rekindle.device.roofline import roofline
from rekindle.device.selection import select_device

__all__ = [
    "Architecture",
    "Device",
    "Match",
    "Platform",
    "architecture",
    "architectures",
    "list_devices",
    "list_platforms",
    "match",
    "roofline",
    "select_device",
    "target_from",
]
