"""Scans pictures of QR codes as a phone does."""

from __future__ import annotations

import io

import zxingcpp
from PIL import Image


def scanned(png: bytes) -> list[str]:
    """The texts of all QR codes in a picture."""
    with Image.open(io.BytesIO(png)) as picture:
        # In the noise of one a reader of everything now and then sees a short bar code, too.
        found = zxingcpp.read_barcodes(picture.convert("L"), formats=zxingcpp.BarcodeFormat.QRCode)
    return [one.text for one in found]
