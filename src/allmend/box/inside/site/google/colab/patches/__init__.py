"""Replacements for functions that need a window."""


def cv2_imshow(image: object) -> None:
    """Show an OpenCV image (BGR or BGRA) in the cell."""
    import cv2
    from IPython.display import display
    from PIL import Image

    picture = image.clip(0, 255).astype("uint8")
    if picture.ndim == 3:
        code = cv2.COLOR_BGRA2RGBA if picture.shape[2] == 4 else cv2.COLOR_BGR2RGB
        picture = cv2.cvtColor(picture, code)
    display(Image.fromarray(picture))
