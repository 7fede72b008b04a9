"""Convert the download of a known dataset to COCO's format.

    centernet-d2 prepare-data crowdhuman [FOLDER] [--boxes head]
    centernet-d2 prepare-data NAME --help

datasets/prepare_NAME.py is the same command.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from centernet_d2.cli.options import build_parser


@dataclass(frozen=True)
class Preparation:
    """How a dataset is prepared.

    Attributes:
        title: one line.
        text: what the folder has to hold.
        converter: module of ``centernet_d2.data.preparation``, and function.
        options: its arguments beside the folder, as argparse takes them; "password" is that of the archives.
    """

    title: str
    text: str
    converter: tuple[str, str]
    options: Mapping[str, dict[str, Any]] = field(default_factory=dict)


_EVERY = {"type": int, "default": 1, "metavar": "N", "help": "take every N-th frame (default: all)"}
_PASSWORD = {"help": "of the archives; unpacking them with `unzip -P` beforehand is much faster"}
_LISTS = {"type": Path, "metavar": "LISTS", "help": "folder of train.txt and val.txt (default: FOLDER/ImageSets_NAME)"}
PREPARATIONS = {
    "300vw": Preparation(
        "300VW for training and evaluation: annotations/{train,test_1,test_2,test_3}.json from the download.",
        "FOLDER holds 300VW_Dataset_2015_12_14.zip or, at any depth, the videos' folders (001/annot/*.pts,\n"
        "001/vid.avi, ...). Frames are extracted once, to 001/extraction/; an interrupted run goes on where it was.",
        ("face_300vw", "convert_300vw"),
        {"every": _EVERY},
    ),
    "300w": Preparation(
        "300W for training and evaluation: annotations/{train,common,challenge,full,test}.json from the downloads.",
        "FOLDER holds afw.zip, helen.zip, ibug.zip, lfpw.zip, and where wanted 300w.zip.001 to .004 and\n"
        "bounding_boxes.zip, or the folders that they unpack to. An interrupted run goes on where it was.",
        ("face_300w", "convert_300w"),
        {
            "boxes": {
                "choices": ("landmarks", "official", "detector"),
                "default": "landmarks",
                "help": "of the faces (default: %(default)s)",
            }
        },
    ),
    "aflw": Preparation(
        "AFLW with 19 landmarks for training and evaluation: annotations/{train,full,frontal}.json from the download.",
        "FOLDER holds aflw-db.tar.gz and aflw-images-{0,2,3}.tar.gz or what they unpack to (data/aflw.sqlite,\n"
        "data/flickr/{0,2,3}/*.jpg), and for the published split AFLWinfo_release.mat, which needs SciPy (pip install\n"
        "scipy).",
        ("aflw", "convert_aflw"),
    ),
    "crowdhuman": Preparation(
        "CrowdHuman -> annotations/{train,val}.json, or for --boxes visible and head annotations/*_<boxes>.json.",
        "FOLDER holds annotation_train.odgt, annotation_val.odgt, CrowdHuman_train01.zip to CrowdHuman_train03.zip\n"
        "and CrowdHuman_val.zip, or what these unpack to; one of the two splits is enough.",
        ("crowdhuman", "convert_crowdhuman"),
        {
            "boxes": {
                "choices": ("full", "visible", "head"),
                "default": "full",
                "help": "of the persons (default: %(default)s)",
            }
        },
    ),
    "deepfashion2": Preparation(
        "DeepFashion2 -> annotations/{train,validation}.json, COCO format, 294 landmarks.",
        "FOLDER holds train.zip and validation.zip as downloaded, or what they unpack to, train/{image,annos} and\n"
        "validation/{image,annos}. The archives are encrypted; whoever asks for the data is given the password.\n"
        "Interrupted, it goes on where it was.",
        ("deepfashion2", "convert_deepfashion2"),
        {"password": _PASSWORD},
    ),
    "kitti": Preparation(
        "KITTI's 3D objects -> annotations/{3dop,subcnn}_{train,val}.json, COCO format with calibration and 3D boxes.",
        "FOLDER holds data_object_image_2.zip, data_object_label_2.zip and data_object_calib.zip as downloaded, or\n"
        "what they unpack to: training/{image_2,label_2,calib}. The splits are not part of KITTI: LISTS is a folder\n"
        "with train.txt and val.txt, an image's number a line; one split is enough.",
        ("kitti", "convert_kitti"),
        {"3dop": _LISTS, "subcnn": _LISTS},
    ),
    "mot17": Preparation(
        "MOT17's videos of pedestrians -> annotations/{train,train_half,val_half,test}.json, COCO format with tracks.",
        "FOLDER holds MOT17.zip as downloaded, or what it unpacks to: {train,test}/<video>/{seqinfo.ini,img1,gt}. Of\n"
        "the three copies of each video that which ends with -FRCNN is used. The halves are the first and the second\n"
        "half of each video of train, which is what has tracks to be scored with. Any folder in this layout will do,\n"
        "such as MOT16's.",
        ("mot", "convert_mot"),
    ),
    "wider_face": Preparation(
        "WIDER FACE -> annotations/{train,val}.json, COCO format, with the difficulties of the evaluation.",
        "FOLDER holds WIDER_train.zip, WIDER_val.zip, wider_face_split.zip and, for easy, medium and hard,\n"
        "eval_tools.zip, or what they unpack to; one of the two splits is enough. The difficulties need SciPy (pip\n"
        "install scipy).",
        ("wider_face", "convert_wider_face"),
    ),
}
#: Converters of single files.
FILES = {
    "dlib_faces": "Faces with 68 landmarks in the XML of dlib's imglab -> a COCO-format file, kind face68.",
    "extreme_points": "Extreme points from polygons and masks in COCO's format: <name>.json -> <name>_extreme.json.",
}


def main(arguments: Sequence[str] | None = None, prog: str | None = None) -> int:
    words = list(sys.argv[1:] if arguments is None else arguments)
    names = [*PREPARATIONS, *FILES]
    parser = build_parser(f"{__doc__}\n{_list_datasets()}", prog)
    parser.add_argument("name", choices=names, metavar="NAME", help="of the dataset")
    name = parser.parse_args(words[:1]).name
    return prepare_dataset(name, words[1:], prog and f"{prog} {name}")


def prepare_dataset(name: str, arguments: Sequence[str] | None = None, prog: str | None = None) -> int:
    """Convert one dataset; returns the exit status: 1 where nothing could be converted."""
    if name == "dlib_faces":
        return _convert_dlib(arguments, prog)
    if name == "extreme_points":
        return _convert_extreme_points(arguments, prog)
    preparation = PREPARATIONS[name]
    example = f"    {prog or f'datasets/prepare_{name}.py'} [FOLDER]"
    parser = build_parser(f"{preparation.title}\n\n{example}\n\n{preparation.text}", prog)
    default = f"{name} in DETECTRON2_DATASETS, or datasets/{name}"
    parser.add_argument("folder", nargs="?", type=Path, help=f"of the downloads (default: {default})")
    for option, settings in preparation.options.items():
        parser.add_argument(f"--{option}", **settings)
    options = vars(parser.parse_args(arguments))
    if options.get("every", 1) < 1:
        parser.error("--every must be 1 or more")

    from centernet_d2.data.image_io import get_datasets_root
    from centernet_d2.data.preparation.command import prepare

    folder, password = options.pop("folder") or Path(get_datasets_root(), name), options.pop("password", None)
    if name == "kitti":
        options = {"lists": _find_lists(folder, options)}
    module, function = preparation.converter
    convert = getattr(importlib.import_module(f"centernet_d2.data.preparation.{module}"), function)
    return prepare(folder, lambda root: convert(root, **options), password)


def _find_lists(folder: Path, options: Mapping[str, Path | None]) -> dict[str, Path]:
    """Folders of KITTI's splits, by split: those that were requested, and those that are there."""
    default = {split: folder / f"ImageSets_{split}" for split in options}
    return {split: path or default[split] for split, path in options.items() if path or default[split].is_dir()}


def _convert_dlib(arguments: Sequence[str] | None, prog: str | None) -> int:
    example = f"{prog or 'datasets/prepare_dlib_faces.py'} faces/training_with_face_landmarks.xml"
    text = "DATASETS.CUSTOM takes the result with the kind face68. Images are found from the folder of the XML file."
    parser = build_parser(f"{FILES['dlib_faces']}\n\n    {example} [--output faces/train.json]\n\n{text}", prog)
    parser.add_argument("xml", type=Path, help="the file that imglab wrote")
    parser.add_argument("--output", type=Path, help="the JSON file (default: the XML file's name, but for the suffix)")
    args = parser.parse_args(arguments)
    return _convert_files("dlib_faces", "convert_dlib_xml", {args.xml: args.output or args.xml.with_suffix(".json")})


def _convert_extreme_points(arguments: Sequence[str] | None, prog: str | None) -> int:
    text = (
        "Without a file, COCO's own: coco/annotations/instances_{train,val}2017.json, for coco_2017_train_extreme and\n"
        "coco_2017_val_extreme. Others are named in DATASETS.CUSTOM with the kind extreme4. An interrupted run goes\n"
        "on where it was."
    )
    example = f"    {prog or 'datasets/prepare_extreme_points.py'} [JSON ...]"
    parser = build_parser(f"{FILES['extreme_points']}\n\n{example}\n\n{text}", prog)
    parser.add_argument("json", nargs="*", type=Path, help="(default: COCO's)")
    args = parser.parse_args(arguments)

    from centernet_d2.data.image_io import get_datasets_root

    root = Path(get_datasets_root(), "coco", "annotations")
    files = args.json or [root / f"instances_{split}2017.json" for split in ("train", "val")]
    outputs = {path: path.with_name(f"{path.stem}_extreme.json") for path in files}
    return _convert_files("extreme_points", "convert_extreme_points", outputs)


def _convert_files(module: str, function: str, outputs: Mapping[Path, Path]) -> int:
    """Convert each file to its output; one that cannot be used prints a line, and the status is 1."""
    convert = getattr(importlib.import_module(f"centernet_d2.data.preparation.{module}"), function)
    failed = False
    for path, output in outputs.items():
        try:
            summary = convert(path, output)
        except (OSError, ValueError) as error:
            print(error, file=sys.stderr)
            failed = True
            continue
        print(summary)
        failed |= not summary.images
    return int(failed)


def _list_datasets() -> str:
    titles = {name: preparation.title for name, preparation in PREPARATIONS.items()} | FILES
    return "\n".join(f"  {name:15} {title}" for name, title in titles.items())
