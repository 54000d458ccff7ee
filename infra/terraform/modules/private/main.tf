# What makes a bucket private: encryption, nothing public, no access lists.

resource "aws_s3_bucket_server_side_encryption_configuration" "this" {
  bucket = var.bucket

  rule {
    bucket_key_enabled = var.encryption_key_arn != ""

    apply_server_side_encryption_by_default {
      sse_algorithm     = var.encryption_key_arn == "" ? "AES256" : "aws:kms"
      kms_master_key_id = var.encryption_key_arn == "" ? null : var.encryption_key_arn
    }
  }
}

resource "aws_s3_bucket_public_access_block" "this" {
  bucket                  = var.bucket
  block_public_acls       = true
  block_public_policy     = true
  ignore_public_acls      = true
  restrict_public_buckets = true
}

resource "aws_s3_bucket_ownership_controls" "this" {
  bucket = var.bucket

  rule {
    object_ownership = "BucketOwnerEnforced"
  }
}
