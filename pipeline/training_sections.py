"""The sections of params.yaml that shape a training: networks, teacher and the training itself. As `sections.py`."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from pipeline.sections import Count, Positive, Section, Share, Weight


class Model(Section):
    """Architecture of generators and discriminators."""

    generator: Literal["resnet_6", "resnet_9", "unet_128", "unet_256"] = "resnet_6"
    """resnet_6 | resnet_9 | unet_128 | unet_256: a U-Net needs preprocess.pixels in multiples of its number"""
    generator_width: Positive = 16
    """feature maps of the first layer"""
    upsampling: Literal["transpose", "resize"] = "transpose"
    """transpose (as in the paper) | resize (slower, no checkerboards)"""
    norm: Literal["instance", "batch", "none"] = "instance"
    """instance | batch (slower; the images of a batch influence each other) | none"""
    initialisation: Literal["normal", "xavier", "kaiming", "orthogonal"] = "normal"
    """normal (as in the paper) | xavier | kaiming | orthogonal: distribution of the first weights"""
    discriminator: Literal["patch", "pixel"] = "patch"
    """patch | pixel (judges brightness, not shape)"""
    discriminator_layers: Annotated[int, Field(ge=1, le=6)] = 3
    """strided layers of the PatchGAN"""
    discriminator_width: Positive = 16
    """feature maps of its first layer"""
    condition_on_contrast: bool = True
    """tell the CT→MR networks which MR contrast is wanted"""


class Teacher(Section):
    """Supervision by simulated pairs."""

    images: Count = 3200
    """simulated pairs seen in the warm-up, before the first unpaired slice"""
    learning_rate: Annotated[float, Field(gt=0)] = 0.001
    """in the warm-up; it falls to train.learning_rate, or to zero where no unpaired phase follows"""
    weight: Weight = 10.0
    """weight of the L1 loss on simulated pairs, in the warm-up and after it"""
    bone: Annotated[float, Field(ge=1)] = 1.0
    """weight of compact bone in the loss of MR→CT, which hardly tells it from air"""
    pictures: Share = 0.9
    """share of pairs drawn as picture files are: CT in a display window, heads framed without millimetres; the others as volumes"""
    free: Share = 0.1
    """share of pairs whose MR follows no physics; they teach MR→CT to read any sequence, and CT→MR nothing"""
    augment: bool = True
    """rotate, scale and shift pairs; vary the brightness curve and the noise of the generators' inputs"""


class RegisteredPairs(Section):
    """Supervision by registered pairs of real slices, where split.pairs is grouped."""

    images: Count = 0
    """registered pairs seen after the warm-up, before the first unpaired slice"""
    weight: Weight = 10.0
    """weight of the loss on registered pairs, from then on to the end; 0: they train unpaired"""
    tolerance: Annotated[int, Field(ge=0, le=4)] = 0
    """pixels by which the two sides may be shifted against each other, in the loss of MR→CT; 0: plain L1"""


class Train(Section):
    """train: how long and how training goes."""

    device: Literal["auto", "cpu", "cuda"] = "auto"
    """auto | cpu | cuda"""
    devices: Positive = 1
    """GPUs, or processes on the CPU, that share each batch"""
    threads: Positive | None = 2
    """CPU threads of each process; another number gives slightly other weights; null: one for each core"""
    precision: Literal["auto", "float32", "tf32", "bfloat16"] = "auto"
    """auto | float32 | tf32 (GPU) | bfloat16; auto: bfloat16 where the GPU has it, or the CPU has it and networks are wide"""
    deterministic: bool | None = None
    """same bytes again on the same machine, at some cost on a GPU; null: yes on the CPU, no on a GPU"""
    compile: bool = False
    """torch.compile: minutes at the start, then faster steps; needs a C++ compiler"""
    cuda_graphs: bool = False
    """one GPU launches recorded steps instead of kernel by kernel, for more memory; elsewhere without effect"""
    start_from: str | None = None
    """box (the model in the box), or a folder with model.json and weights to start from; null: random weights"""
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    """first weights, order of slices, augmentation; below 4294967296"""
    images: Count = 800
    """budget: unpaired training images of each modality seen"""
    epochs: Positive | None = None
    """budget in passes over the larger modality, instead of train.images; null: train.images counts"""
    batch_size: Positive = 4
    """slices of each modality in a step"""
    learning_rate: Annotated[float, Field(gt=0)] = 0.0002
    """of Adam, for generators and discriminators"""
    adam_beta1: Annotated[float, Field(ge=0, lt=1)] = 0.5
    """decay of Adam's mean gradient"""
    schedule: Literal["linear", "step", "cosine", "plateau"] = "linear"
    """linear | cosine (both fall to zero) | step | plateau: learning rate of the unpaired phase"""
    decay_from: Share = 0.5
    """share of the budget after which the learning rate falls"""
    decay_factor: Annotated[float, Field(gt=0, lt=1)] = 0.1
    """schedules step (at decay_from, and halfway from there to the end) and plateau: factor of each fall"""
    patience: Positive = 5
    """schedule plateau: validations without improvement before a fall"""
    clip_gradients: Weight = 0.0
    """largest norm of a step's gradients; larger ones are scaled down; 0 disables"""
    gan_loss: Literal["lsgan", "vanilla", "wgan_gp", "hinge"] = "lsgan"
    """lsgan | vanilla | wgan_gp | hinge"""
    lambda_cycle: Weight = 3.0
    """weight of the cycle loss"""
    lambda_identity: Weight = 0.0
    """weight of the identity loss, relative to lambda_cycle"""
    lambda_adversarial: Weight = 0.3
    """weight of the GAN loss"""
    pool_size: Count = 50
    """earlier translations that are shown to the discriminators again"""
    ema_decay: Annotated[float, Field(ge=0, lt=1)] = 0.99
    """decay of the moving average of the generators' weights, which becomes the model; 0 disables"""
    flip: bool = True
    """flip left and right at random"""
    crop: Annotated[float, Field(ge=0, le=0.5)] = 0.0
    """unpaired slices and registered pairs: crop at random, leaving out up to this share of a side"""
    affine: bool = False
    """unpaired slices and registered pairs: rotate, scale and shift a little at random"""
    teacher: Teacher = Teacher()
    pairs: RegisteredPairs = RegisteredPairs()
    checkpoint_seconds: Annotated[float, Field(gt=0)] = 120.0
    """seconds between checkpoints; an interrupted training loses at most so much"""
    sample_images: Positive = 1000
    """validate and draw sample translations every so many images"""
    keep_best: bool = False
    """true: the weights of the best validation become the model; false: the last ones"""
    stop_after: Count = 0
    """end after so many validations without improvement; 0 disables"""

    @model_validator(mode="after")
    def _possible(self) -> "Train":
        if self.batch_size % self.devices:
            raise ValueError(f"batch_size = {self.batch_size} cannot be shared by devices = {self.devices}; make it a multiple")
        if self.precision == "tf32" and self.device == "cpu":
            raise ValueError("precision = tf32 needs a GPU; set it to float32 for device = cpu")
        if self.compile and self.gan_loss == "wgan_gp":
            raise ValueError("compile = true cannot differentiate twice, as gan_loss = wgan_gp needs; set compile to false")
        if self.teacher.images > 0 and self.teacher.weight == 0:
            raise ValueError("teacher.images > 0 needs teacher.weight above 0")
        if self.pairs.images > 0 and self.pairs.weight == 0:
            raise ValueError("pairs.images > 0 needs pairs.weight above 0")
        if not (self.images or self.epochs or self.teacher.images or self.pairs.images):
            raise ValueError("images, teacher.images and pairs.images are all 0, so there is nothing to train; raise one")
        return self
