"""What accelerate asks about Amazon SageMaker; texts of accelerate 1.15.0."""

from simpletuner_tui.questions.accelerate.common import AWS, Section, answer, at_least, needed
from simpletuner_tui.questions.accelerate.machine import DEBUG, USE_DYNAMO
from simpletuner_tui.questions.accelerate.precision import PRECISIONS, TF32
from simpletuner_tui.questions.conditions import AllOf, Not, Probe
from simpletuner_tui.questions.model import Choice, Sets

ask = Section("accelerate, Amazon SageMaker")

ROLE = "accelerate_sagemaker_execution_role"
INSTANCES = ("ml.p3.16xlarge", "ml.p3dn.24xlarge", "ml.p4dn.24xlarge")

PROFILE, CREDENTIALS = answer("sm_auth", "PROFILE"), answer("sm_auth", "CREDENTIALS")
PROVIDE, CREATE = answer("sm_role", "PROVIDE"), answer("sm_role", "CREATE")
SINGLE, DATA_PARALLEL = answer("sm_dist", "NO"), answer("sm_dist", "DATA_PARALLEL")

SAGEMAKER = (
    ask.menu(
        "sm_auth",
        "How do you want to authorize?",
        (
            Choice("AWS Profile", "PROFILE"),
            Choice("Credentials (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY) ", "CREDENTIALS"),
        ),
        when=AWS,
        help="A profile is a name in ~/.aws/credentials.",
    ),
    ask.text(
        "sm_profile",
        "Enter your AWS Profile name: [default] ",
        "profile",
        default="default",
        when=PROFILE,
        check=needed,
    ),
    ask.note(
        "sm_note_keys",
        "Note you will need to provide AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY when you launch you training "
        "script with,`accelerate launch --aws_access_key_id XXX --aws_secret_access_key YYY`",
        CREDENTIALS,
    ),
    ask.text(
        "sm_key",
        "AWS Access Key ID: ",
        default="",
        secret=True,
        when=CREDENTIALS,
        help="It is in no file: leave it empty.",
    ),
    ask.text(
        "sm_secret",
        "AWS Secret Access Key: ",
        default="",
        secret=True,
        when=CREDENTIALS,
        help="It is in no file: leave it empty.",
    ),
    ask.text(
        "sm_region",
        "Enter your AWS Region: [us-east-1]",
        "region",
        default="us-east-1",
        when=AWS,
        check=needed,
    ),
    ask.menu(
        "sm_role",
        "Do you already have an IAM Role for executing Amazon SageMaker Training Jobs?",
        (
            Choice("Provide IAM Role name", "PROVIDE"),
            Choice(
                "Create new IAM role using credentials",
                "CREATE",
                f"only the file is written here; {ROLE} has to be made in AWS, or with `accelerate config`",
            ),
        ),
        Sets("iam_role_name", constant=ROLE, when=CREATE),
        when=AWS,
        help="The role that the training job acts with.",
    ),
    ask.text("sm_role_name", "Enter your IAM role name: ", "iam_role_name", when=PROVIDE, check=needed),
    ask.note("sm_note_role", f'Accelerate will create an iam role "{ROLE}" using the provided credentials', CREATE),
    ask.stop(
        "sm_stop_boto3",
        "name 'boto3' is not defined",
        CREATE,
        Not(Probe("boto3")),
        reason="accelerate makes the role with boto3, which is not installed: pip install boto3",
    ),
    ask.note(
        "sm_note_exists",
        f"role {ROLE} already exists. Using existing one",
        AllOf(CREATE, Probe("sagemaker_role")),
    ),
    ask.yes_no("sm_docker", "Do you want to use custom Docker image? [yes/NO]: ", when=AWS),
    ask.text(
        "sm_image",
        "Enter your Docker image: ",
        Sets("image_uri", str.lower),
        when=answer("sm_docker", True),
        check=needed,
    ),
    ask.yes_no(
        "sm_inputs",
        "Do you want to provide SageMaker input channels with data locations? [yes/NO]: ",
        when=AWS,
    ),
    ask.path(
        "sm_inputs_file",
        "Enter the path to the SageMaker inputs TSV file with columns (channel_name, data_location): ",
        Sets("sagemaker_inputs_file", str.lower),
        when=answer("sm_inputs", True),
        check=needed,
        help="accelerate saves it in lower case.",
    ),
    ask.yes_no("sm_metrics", "Do you want to enable SageMaker metrics? [yes/NO]: ", when=AWS),
    ask.path(
        "sm_metrics_file",
        "Enter the path to the SageMaker metrics TSV file with columns (metric_name, metric_regex): ",
        Sets("sagemaker_metrics_file", str.lower),
        when=answer("sm_metrics", True),
        check=needed,
        help="accelerate saves it in lower case.",
    ),
    ask.menu(
        "sm_dist",
        "What is the distributed mode?",
        (Choice("No distributed training", "NO"), Choice("Data parallelism", "DATA_PARALLEL")),
        "distributed_type",
        when=AWS,
    ),
    ask.yes_no("sm_use_dynamo", USE_DYNAMO, when=AWS),
)
"""Up to what accelerate asks about dynamo in either compute environment."""

INSTANCE = (
    ask.menu(
        "sm_ec2_menu",
        "Which EC2 instance type you want to use for your training?",
        INSTANCES,
        "ec2_instance_type",
        when=DATA_PARALLEL,
    ),
    ask.text(
        "sm_ec2",
        "Which EC2 instance type you want to use for your training?? [ml.p3.2xlarge]:",
        Sets("ec2_instance_type", str.lower),
        default="ml.p3.2xlarge",
        when=SINGLE,
        check=needed,
    ),
    ask.yes_no("sm_debug", DEBUG, "debug", when=DATA_PARALLEL),
    ask.number(
        "sm_machines",
        "How many machines do you want use? [1]: ",
        "num_machines",
        default=1,
        when=DATA_PARALLEL,
        check=at_least(1),
    ),
    ask.menu(
        "sm_mixed",
        "Do you wish to use FP16 or BF16 (mixed precision)?",
        (row.label for row in PRECISIONS),
        "mixed_precision",
        when=AWS,
    ),
    ask.note("sm_note_tf32", TF32, AllOf(answer("sm_use_dynamo", True), answer("sm_mixed", "no"))),
)
