"""The lists of trainings for two half hours on one GPU: networks that teach, then the networks that learn from them."""

WORK = "/tmp/fer-edge-gpu"  # on the GPU machine

_DATA = f"--data {WORK}/data/fer2013 --protocol official --checkpoint-seconds 60"
# Published recipes of FER2013 use SGD and up to 300 epochs. Their weight decay of 0.0005 corresponds to 0.005 here.
_SGD = (
    "--weights none --set optimizer=sgd --set weight_decay=0.005 --set batch_size=256 --set ema_momentum=0.999 "
    "--set label_smoothing=0.1 --set mixup=0.5 --set class_weight_power=0 --set random_crop=0.15"
)
_FINE_TUNING = "--set batch_size=256 --set weight_decay=0.05 --set mixup=0.3 --set ema_momentum=0.995"


def _run(network: str, folder: str) -> str:
    return f"{WORK}/{folder}/{network}-fer2013-edge-changed-official-s0"


_TAUGHT_BY = " ".join(
    f"--teacher {_run(name, 'teachers')}" for name in ("resnet18", "wide_resnet", "mobilenet_v2", "mobilenet_v1")
)
_STUDENT = f"{_DATA} {_TAUGHT_BY} --teacher-views same --set batch_size=256 --set mixup=0.4 --set class_weight_power=0"

TEACHERS = f"""# Half hour 1: networks that teach, then their outputs for 64 views of each face.
fer-edge train resnet18 {_DATA} {_SGD} --set learning_rate=0.1 --minutes 5 --out {WORK}/teachers
fer-edge train wide_resnet {_DATA} {_SGD} --set learning_rate=0.1 --minutes 5 --out {WORK}/teachers
fer-edge train mobilenet_v2 {_DATA} {_FINE_TUNING} --weights {WORK}/extra/mobilenet_v2_imagenet_notop.weights.h5 \\
    --set learning_rate=0.002 --minutes 4 --out {WORK}/teachers
fer-edge train mobilenet_v1 {_DATA} {_FINE_TUNING} --weights {WORK}/extra/mobilenet_v1_faceres_f32.npz \\
    --set learning_rate=0.001 --minutes 4 --out {WORK}/teachers
fer-edge train cnn_nano {_DATA} {_TAUGHT_BY} --teacher-views 64 --set batch_size=256 --set learning_rate=0.006 \\
    --set class_weight_power=0 --minutes 3 --out {WORK}/views
"""

STUDENTS = f"""# Half hour 2: each network learns from the teachers, which see the same pixels. In a new session, carry the
# packed teachers in the folder state of the bundle: run.sh restores them.
fer-edge train cnn_nano {_STUDENT} --set learning_rate=0.006 --minutes 5 --out {WORK}/students
fer-edge train cnn {_STUDENT} --set learning_rate=0.002 --minutes 3 --out {WORK}/students
fer-edge train mobilenet_v2 {_STUDENT} --weights {WORK}/extra/mobilenet_v2_imagenet_notop.weights.h5 \\
    --set learning_rate=0.002 --set weight_decay=0.05 --minutes 5 --out {WORK}/students
fer-edge train vgg16 {_STUDENT} --weights none --set learning_rate=0.001 --set weight_decay=0.1 \\
    --minutes 4 --out {WORK}/students
fer-edge train densenet121 {_STUDENT} --weights none --set learning_rate=0.002 --set weight_decay=0.1 \\
    --minutes 5 --out {WORK}/students
fer-edge train inception_v3 {_STUDENT} --weights none --set learning_rate=0.0015 --set weight_decay=0.1 \\
    --minutes 5 --out {WORK}/students
"""

LISTS = {"teachers": TEACHERS, "students": STUDENTS}
