variable "channel" {
  description = "Channel whose generations the key signs."
  type        = string
}

variable "name_prefix" {
  description = "What names of IAM policies begin with."
  type        = string
  default     = "softprompt"
}

variable "tags" {
  description = "Tags of key and policy."
  type        = map(string)
  default     = {}
}
