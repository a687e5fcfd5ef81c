"""How NVMe is read and written."""

from launcher.deepspeed.fields.field import Field, Group, Kind

AIO = (
    Field(
        "aio.block_size",
        Kind.INT,
        1_048_576,
        "Bytes in one request to the drive.",
        Group.AIO,
        minimum=1,
        unit="bytes",
        stages=(3,),
    ),
    Field(
        "aio.queue_depth",
        Kind.INT,
        8,
        "Requests under way at once.",
        Group.AIO,
        minimum=1,
        unit="requests",
        stages=(3,),
    ),
    Field(
        "aio.intra_op_parallelism",
        Kind.INT,
        1,
        "Threads that share one transfer.",
        Group.AIO,
        effect="DeepSpeed's documents call it thread_count, which is ignored.",
        minimum=1,
        unit="threads",
        stages=(3,),
    ),
    Field(
        "aio.single_submit", Kind.BOOL, False, "Submit requests one by one instead of together.", Group.AIO, stages=(3,)
    ),
    Field(
        "aio.overlap_events",
        Kind.BOOL,
        True,
        "Submit the next requests while the last ones complete.",
        Group.AIO,
        stages=(3,),
    ),
    Field(
        "aio.use_gds",
        Kind.BOOL,
        False,
        "Read straight into the GPU's memory, by NVIDIA GPUDirect Storage.",
        Group.AIO,
        effect="Needs CUDA and the nvidia-fs driver.",
        stages=(3,),
    ),
)
