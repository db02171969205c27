# Three stages: compile with everything, install only what runs, and put the two together.
FROM node:22-bookworm-slim AS build
WORKDIR /app
COPY package.json package-lock.json .npmrc ./
RUN npm ci --no-audit --no-fund
COPY tsconfig.json ./
COPY src src
COPY routes routes
COPY openapi openapi
RUN npx tsc -p tsconfig.json

FROM node:22-bookworm-slim AS packages
WORKDIR /app
COPY package.json package-lock.json .npmrc ./
RUN npm ci --omit=dev --no-audit --no-fund && npm cache clean --force

FROM node:22-bookworm-slim
LABEL org.opencontainers.image.title="rabbitmq-http-gateway" \
      org.opencontainers.image.description="HTTP REST gateway to RabbitMQ" \
      org.opencontainers.image.licenses="Apache-2.0"
ENV NODE_ENV=production HOST=0.0.0.0 PORT=8080
WORKDIR /app
COPY --from=packages /app/node_modules node_modules
COPY --from=build /app/dist dist
COPY package.json LICENSE ./
USER node
EXPOSE 8080
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=6s --start-period=10s --retries=3 \
  CMD ["node", "dist/src/main.js", "health"]
# AUTH is not set on purpose: in a container the gateway listens to everyone, so the operator has to set AUTH.
CMD ["node", "dist/src/main.js"]
