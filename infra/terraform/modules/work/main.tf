# What runs work with, and nothing that a fleet believes: base models and datasets, which people put there, and checkpoints,
# artifacts of runs and of MLflow, which runs write. No Object Lock: all of it can be made again.

locals {
  duties = toset(["bases", "trainer", "runs", "registry"])
}

resource "aws_s3_bucket" "this" {
  bucket = var.name
  tags   = var.tags
}

resource "aws_s3_bucket_server_side_encryption_configuration" "this" {
  bucket = aws_s3_bucket.this.id

  rule {
    bucket_key_enabled = var.encryption_key_arn != ""

    apply_server_side_encryption_by_default {
      sse_algorithm     = var.encryption_key_arn == "" ? "AES256" : "aws:kms"
      kms_master_key_id = var.encryption_key_arn == "" ? null : var.encryption_key_arn
    }
  }
}

resource "aws_s3_bucket_public_access_block" "this" {
  bucket                  = aws_s3_bucket.this.id
  block_public_acls       = true
  block_public_policy     = true
  ignore_public_acls      = true
  restrict_public_buckets = true
}

resource "aws_s3_bucket_ownership_controls" "this" {
  bucket = aws_s3_bucket.this.id

  rule {
    object_ownership = "BucketOwnerEnforced"
  }
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
