# Elasticsearch with the analyzers that es_mappings/ names: kuromoji (Japanese) and nori (Korean).
ARG BASE=elasticsearch:9.5.3
FROM ${BASE}
# Empty for a base that has the analyzers already, such as the one of deploy/docker/local-images.sh.
ARG PLUGINS="analysis-kuromoji analysis-nori"
RUN if [ -n "${PLUGINS}" ]; then bin/elasticsearch-plugin install --batch ${PLUGINS}; fi
