# Images for two architectures: docker buildx bake -f docker/docker-bake.hcl

variable "TAG" { default = "pilothouse:latest" }
variable "REVISION" { default = "unknown" }
variable "BUILD_DATE" { default = "unknown" }

target "default" {
  context    = "."
  dockerfile = "docker/Dockerfile"
  platforms  = ["linux/amd64", "linux/arm64"]
  tags       = [TAG]
  args       = { REVISION = REVISION, BUILD_DATE = BUILD_DATE }
}
