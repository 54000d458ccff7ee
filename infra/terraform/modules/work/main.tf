# What runs work with, and nothing that a fleet believes: base models and datasets, which people put there, and checkpoints,
# artifacts of runs and of MLflow, which runs write. No Object Lock: all of it can be made again.

locals {
  duties = toset(["bases", "trainer", "runs", "registry"])
}

resource "aws_s3_bucket" "this" {
  bucket = var.name
  tags   = var.tags
}

module "private" {
  source = "../private"

  bucket             = aws_s3_bucket.this.id
  encryption_key_arn = var.encryption_key_arn
}

resource "aws_s3_bucket_lifecycle_configuration" "this" {
  bucket = aws_s3_bucket.this.id

  rule {
    id     = "forget-checkpoints"
    status = "Enabled"

    filter {
      prefix = "checkpoints/"
    }

    expiration {
      days = var.checkpoint_days
    }

    abort_incomplete_multipart_upload {
      days_after_initiation = 1
    }
  }
}

resource "aws_iam_policy" "this" {
  for_each = local.duties

  name   = "${var.name_prefix}-${each.key}"
  policy = templatefile("${path.module}/../../policies/${each.key}.json.tftpl", { work_arn = aws_s3_bucket.this.arn })
  tags   = var.tags
}
