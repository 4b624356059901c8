"""Drawn faces that both detectors take for faces, and pictures to put them on."""

import cv2
import numpy as np
import numpy.typing as npt

Pixels = npt.NDArray[np.uint8]
BACKGROUND, SKIN = (96, 120, 150), (224, 178, 150)


def blank(width: int, height: int) -> Pixels:
    """uint8[height, width, 3] of one colour."""
    return np.full((height, width, 3), BACKGROUND, np.uint8)


def draw_face(image: Pixels, x: int, y: int, width: int, roll_degrees: float = 0.0) -> None:
    """Draw a face of this width in the middle of (x, y), turned clockwise."""
    side = 400
    face = blank(side, side)
    cv2.ellipse(face, (200, 180), (128, 165), 0, 0, 360, (70, 48, 36), -1, cv2.LINE_AA)  # hair
    cv2.ellipse(face, (200, 210), (108, 145), 0, 0, 360, SKIN, -1, cv2.LINE_AA)
    cv2.ellipse(face, (200, 90), (95, 42), 0, 0, 360, (70, 48, 36), -1, cv2.LINE_AA)
    for eye in (155, 245):
        cv2.ellipse(face, (eye, 185), (32, 22), 0, 0, 360, (188, 138, 116), -1, cv2.LINE_AA)  # its socket
        cv2.ellipse(face, (eye, 188), (21, 11), 0, 0, 360, (246, 244, 240), -1, cv2.LINE_AA)
        cv2.circle(face, (eye, 188), 10, (50, 34, 26), -1, cv2.LINE_AA)
        cv2.ellipse(face, (eye, 160), (30, 8), 0, 180, 360, (60, 40, 30), 7, cv2.LINE_AA)
    cv2.ellipse(face, (200, 222), (12, 42), 0, 0, 360, (238, 200, 174), -1, cv2.LINE_AA)
    for nostril in (188, 212):
        cv2.circle(face, (nostril, 256), 5, (130, 80, 66), -1, cv2.LINE_AA)
    cv2.ellipse(face, (200, 296), (44, 15), 0, 0, 360, (176, 76, 76), -1, cv2.LINE_AA)
    cv2.line(face, (158, 295), (242, 295), (96, 36, 40), 4, cv2.LINE_AA)
    face = np.asarray(cv2.GaussianBlur(face, (0, 0), 2.5), np.uint8)
    scale = width / 216
    turn = cv2.getRotationMatrix2D((200, 210), -roll_degrees, scale)
    turn[:, 2] += (x - 200, y - 210)
    shrunk = cv2.warpAffine(face, turn, image.shape[1::-1], flags=cv2.INTER_AREA, borderMode=cv2.BORDER_TRANSPARENT)
    outline = np.zeros((side, side), np.uint8)
    cv2.ellipse(outline, (200, 180), (128, 165), 0, 0, 360, 255, -1)
    cv2.ellipse(outline, (200, 210), (108, 145), 0, 0, 360, 255, -1)
    mask = cv2.warpAffine(outline, turn, image.shape[1::-1])
    image[mask > 127] = shrunk[mask > 127]
