# The bucket that channels live in: versions, Object Lock, encryption, no public access, a lifecycle, and what nobody may do.

locals {
  templates = "${path.module}/../../policies"
  prefix    = var.prefix == "" ? "" : "${var.prefix}/"
  lifecycle = jsondecode(templatefile("${local.templates}/lifecycle.json.tftpl", {
    prefix          = local.prefix
    noncurrent_days = var.noncurrent_days
    proposal_days   = var.proposal_days
  }))
}

resource "aws_s3_bucket" "this" {
  bucket              = var.name
  object_lock_enabled = true
  tags                = var.tags

  lifecycle {
    prevent_destroy = true
  }
}

resource "aws_s3_bucket_versioning" "this" {
  bucket = aws_s3_bucket.this.id

  versioning_configuration {
    status = "Enabled"
  }
}

# S3 has a default retention for a whole bucket, none for a prefix: blobs are held as long as generations are.
resource "aws_s3_bucket_object_lock_configuration" "this" {
  bucket = aws_s3_bucket.this.id

  rule {
    default_retention {
      mode = var.retention_mode
      days = var.retention_days
    }
  }

  depends_on = [aws_s3_bucket_versioning.this]
}

module "private" {
  source = "../private"

  bucket             = aws_s3_bucket.this.id
  encryption_key_arn = var.encryption_key_arn
}

resource "aws_s3_bucket_policy" "this" {
  bucket = aws_s3_bucket.this.id
  policy = templatefile("${local.templates}/bucket.json.tftpl", {
    bucket_arn = aws_s3_bucket.this.arn
    prefix     = local.prefix
  })

  depends_on = [module.private]
}

resource "aws_s3_bucket_lifecycle_configuration" "this" {
  bucket = aws_s3_bucket.this.id

  dynamic "rule" {
    for_each = local.lifecycle.Rules

    content {
      id     = rule.value.ID
      status = rule.value.Status

      filter {
        prefix = rule.value.Filter.Prefix
      }

      dynamic "abort_incomplete_multipart_upload" {
        for_each = [for found in [try(rule.value.AbortIncompleteMultipartUpload, null)] : found if found != null]
        content {
          days_after_initiation = abort_incomplete_multipart_upload.value.DaysAfterInitiation
        }
      }

      dynamic "noncurrent_version_expiration" {
        for_each = [for found in [try(rule.value.NoncurrentVersionExpiration, null)] : found if found != null]
        content {
          noncurrent_days = noncurrent_version_expiration.value.NoncurrentDays
        }
      }

      dynamic "expiration" {
        for_each = [for found in [try(rule.value.Expiration, null)] : found if found != null]
        content {
          days                         = try(expiration.value.Days, null)
          expired_object_delete_marker = try(expiration.value.ExpiredObjectDeleteMarker, null)
        }
      }
    }
  }

  depends_on = [aws_s3_bucket_versioning.this]
}
