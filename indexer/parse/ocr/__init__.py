"""Character recognition, with the extra ``ocr`` or with Tesseract."""
